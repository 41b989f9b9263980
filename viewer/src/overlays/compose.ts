/** Which layers a view shows, with their legends: from the state and the slide's data. */
import { type ColourMap, DIVERGING, SEQUENTIAL } from "../colours";
import { significant } from "../page/format";
import type { Annotations, Info } from "../source/model";
import type { State } from "../state/state";
import type { Attention } from "./attention";
import type { Layer, Legend } from "./layer";
import { MaskLayer, TilesLayer, ValueLayer } from "./layers";
import { AnnotationLayer, TopLayer } from "./shapes";
import { MEASURES, type TileGrid } from "./tilegrid";

/** Tiles outlined as the most attended. */
export const TOP = 20;
export const COLOURS = { mask: "#00a0b0", tiles: "#1d4ed8", top: "#d4006a" };
const TILES_MAP = new Uint8ClampedArray(768).map((_, at) => [29, 78, 216][at % 3] as number) as ColourMap;

/** What is known of the slide that a view shows; null: there is none, or it is not yet here. */
export interface Known {
  info: Info;
  grid: TileGrid | null;
  mask: HTMLImageElement | null;
  annotations: Annotations | null;
  attention: Attention | null;
  /** Of the arm that it is compared with. */
  other: Attention | null;
  titles: { arm: string; other: string };
}

export interface Drawn {
  layer: Layer;
  legend: Legend;
}

type Part = "first" | "second" | "difference";

/** The layers of a view by their id; those that cannot be made are left out. */
export function compose(known: Known, state: Pick<State, "attention" | "quality">, part: Part): Map<string, Drawn> {
  const { grid, info } = known;
  const drawn: (Drawn | null)[] = [
    known.mask && info.mask && mask(known.mask, info.mask.downsample),
    grid && tiles(grid),
    grid && quality(grid, state.quality),
    grid && attention(grid, known, state, part),
    known.annotations && annotations(known.annotations),
    grid && top(grid, known, part),
  ];
  return new Map(drawn.filter((found): found is Drawn => !!found).map((found) => [found.layer.id, found]));
}

const swatch = (title: string, colour: string, text: string, outline = false): Legend => ({
  kind: "swatches",
  title,
  items: [{ colour, text, outline }],
});

const mask = (image: HTMLImageElement, downsample: number): Drawn => ({
  layer: new MaskLayer(image, downsample, COLOURS.mask),
  legend: swatch("Tissue mask", COLOURS.mask, "tissue"),
});

const tiles = (grid: TileGrid): Drawn => ({
  layer: new TilesLayer(grid, COLOURS.tiles, TILES_MAP),
  legend: swatch("Tiles", COLOURS.tiles, `${grid.count.toLocaleString("en")} tiles`, true),
});

function annotations(found: Annotations): Drawn {
  const layer = new AnnotationLayer(found);
  return { layer, legend: layer.legend() };
}

function quality(grid: TileGrid, measure: string): Drawn | null {
  const values = grid.measures[measure];
  if (!values) return null;
  const [, title, isShare] = MEASURES.find(([key]) => key === measure) ?? [measure, measure, false];
  const [low, high] = isShare ? [0, 1] : range(values);
  const scaled = values.map((value) => (high > low ? (value - low) / (high - low) : 1));
  return {
    layer: new ValueLayer("quality", grid, scaled, SEQUENTIAL),
    legend: scale(`Tile quality: ${title}${isShare ? ", share of the tile" : ""}`, SEQUENTIAL, low, high),
  };
}

function attention(grid: TileGrid, known: Known, state: Pick<State, "attention">, part: Part): Drawn | null {
  if (part === "difference") return difference(grid, known, state.attention);
  const [found, title] = part === "first" ? [known.attention, known.titles.arm] : [known.other, known.titles.other];
  if (!found) return null;
  const rank = state.attention === "rank";
  const values = rank ? found.ranks : found.weights.map((weight) => weight / (found.largest || 1));
  const legend: Legend = rank ? percentiles(title) : weights(title, found);
  return { layer: new ValueLayer("attention", grid, values, SEQUENTIAL), legend };
}

const percentiles = (title: string): Legend => ({
  kind: "scale",
  title: `Attention (${title}), percentile of the tiles`,
  map: SEQUENTIAL,
  ticks: [0, 25, 50, 75, 100].map((at) => ({ at: at / 100, text: String(at) })),
});

/** Zero, what each tile had if all were attended alike, and the largest. */
function weights(title: string, { largest, order }: Attention): Legend {
  const even = 1 / order.length / (largest || 1);
  const ticks = [
    { at: 0, text: "0" },
    { at: 1, text: significant(largest, 2) },
  ];
  if (even > 0.15 && even < 0.7) ticks.splice(1, 0, { at: even, text: `1/${order.length}` });
  return { kind: "scale", title: `Attention (${title}), weight`, map: SEQUENTIAL, ticks };
}

function difference(
  grid: TileGrid,
  { attention: a, other: b, titles }: Known,
  weighting: State["attention"],
): Drawn | null {
  if (!a || !b) return null;
  const rank = weighting === "rank";
  const [first, second] = rank ? [a.ranks, b.ranks] : [a.weights, b.weights];
  const values = first.map((value, tile) => value - (second[tile] as number));
  const most = rank ? 1 : values.reduce((found, value) => (Math.abs(value) > found ? Math.abs(value) : found), 0) || 1;
  const text = (value: number) =>
    (value > 0 ? "+" : value < 0 ? "−" : "") + significant(Math.abs(rank ? 100 * value : value), 2);
  const legend: Legend = {
    kind: "scale",
    title: `${titles.arm} minus ${titles.other}, ${rank ? "percentile points" : "weight"}`,
    map: DIVERGING,
    ticks: [-1, 0, 1].map((side) => ({ at: (side + 1) / 2, text: text(side * most) })),
  };
  return {
    layer: new ValueLayer(
      "attention",
      grid,
      values.map((value) => value / most / 2 + 0.5),
      DIVERGING,
    ),
    legend,
  };
}

function top(grid: TileGrid, known: Known, part: Part): Drawn | null {
  const found = part === "second" ? known.other : known.attention;
  if (!found) return null;
  const order = found.order.slice(0, TOP);
  return {
    layer: new TopLayer(grid, order, COLOURS.top),
    legend: swatch("Top tiles", COLOURS.top, `the ${order.length} most attended`, true),
  };
}

function range(values: Float32Array): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (!Number.isNaN(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return low <= high ? [low, high] : [0, 1];
}

const scale = (title: string, map: ColourMap, low: number, high: number): Legend => ({
  kind: "scale",
  title,
  map,
  ticks: (high > low ? [0, 0.5, 1] : [1]).map((at) => ({ at, text: significant(low + at * (high - low), 2) })),
});
