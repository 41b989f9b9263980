/**
 * Colour maps that are even to the eye and read without telling red from green.
 *
 * They are computed in OKLab (Ottosson 2020): lightness runs evenly along the sequential map and
 * evenly to both sides of the diverging one, so the order of values survives every kind of colour
 * blindness and a black-and-white print.
 */

export type Colour = [red: number, green: number, blue: number];
/** 256 colours, RGB bytes. */
export type ColourMap = Uint8ClampedArray;

const STEPS = 256;

/** Dark violet over teal to light yellow. */
export const SEQUENTIAL = colourMap((at) => [0.27 + 0.65 * at, 0.15, 305 - 200 * at]);

/** Blue over nearly white to rust: below and above zero. */
export const DIVERGING = colourMap((at) => {
  const side = Math.abs(2 * at - 1);
  return [0.96 - 0.5 * side, 0.15 * side, at < 0.5 ? 255 : 45];
});

/** Of groups that have no colour of their own (Okabe and Ito). */
export const GROUPS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000"];

/** The colour of a value in 0…1. */
export function colourAt(map: ColourMap, value: number): Colour {
  const at = 3 * Math.round(Math.min(1, Math.max(0, value)) * (STEPS - 1));
  return [map[at]!, map[at + 1]!, map[at + 2]!];
}

export const css = ([red, green, blue]: Colour): string => `rgb(${red} ${green} ${blue})`;

function colourMap(lch: (at: number) => [lightness: number, chroma: number, hue: number]): ColourMap {
  const map = new Uint8ClampedArray(3 * STEPS);
  for (let step = 0; step < STEPS; step++) map.set(inGamut(...lch(step / (STEPS - 1))), 3 * step);
  return map;
}

/** The colour of this lightness and hue with the chroma that a screen can show. */
function inGamut(lightness: number, chroma: number, hue: number): Colour {
  for (let part = 1; part > 0; part -= 0.02) {
    const rgb = linearRgb(lightness, chroma * part, hue);
    if (rgb.every((value) => value >= -1e-4 && value <= 1.0001)) return rgb.map(encoded) as Colour;
  }
  return linearRgb(lightness, 0, hue).map(encoded) as Colour;
}

function linearRgb(lightness: number, chroma: number, hue: number): Colour {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

/** A linear value as a byte of sRGB. */
function encoded(value: number): number {
  const v = Math.min(1, Math.max(0, value));
  return Math.round(255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055));
}
