/** What lies over the slide. */
import type { ColourMap } from "../colours";

/** Where the slide is on the screen. */
export interface Frame {
  /** Screen pixels (of the canvas) per level-0 pixel. */
  scale: number;
  /** Device pixels per CSS pixel. */
  density: number;
  /** What is visible, in level-0 pixels: an upright box around it. */
  visible: { left: number; top: number; right: number; bottom: number };
}

export interface Layer {
  id: string;
  /** Draw with the context in level-0 pixels, rotated and scaled, its opacity set. */
  draw(context: CanvasRenderingContext2D, frame: Frame): void;
}

export type Legend =
  | { kind: "scale"; title: string; map: ColourMap; ticks: { at: number; text: string }[] }
  | { kind: "swatches"; title: string; items: { colour: string; text: string; outline?: boolean }[] };
