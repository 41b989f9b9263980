/** The tiles of a slide as cells of a grid, so that 200,000 of them are drawn as one small image. */
import { type ColourMap, colourAt } from "../colours";
import { arrayOf, type Tensors } from "../source/safetensors";

/** Shares of a tile's pixels, whose colours mean the same on every slide; and focus, which has no end. */
export const MEASURES: [key: string, title: string, isShare: boolean][] = [
  ["tissue_fraction", "tissue", true],
  ["focus", "focus", false],
  ["pen", "pen", true],
  ["white", "white", true],
  ["black", "black", true],
  ["fold", "fold", true],
];

/** Cells that a grid may have: coordinates that lie on no grid would make endless ones. */
const MOST_CELLS = 16_000_000;

export class TileGrid {
  readonly count: number;
  readonly columns: number;
  readonly rows: number;
  /** Level-0 pixels of the first cell's corner. */
  readonly left: number;
  readonly top: number;
  /** Tile of each cell, or -1. */
  readonly cells: Int32Array;

  /**
   * @param coords [2 N] upper left corners in level-0 pixels
   * @param size side of a tile in level-0 pixels
   * @param stride between tiles in level-0 pixels
   */
  constructor(
    readonly coords: Int32Array,
    readonly size: number,
    readonly stride: number,
    readonly measures: Record<string, Float32Array>,
  ) {
    this.count = coords.length / 2;
    let [x0, y0, x1, y1] = [Infinity, Infinity, 0, 0];
    for (let tile = 0; tile < this.count; tile++) {
      [x0, y0] = [Math.min(x0, this.x(tile)), Math.min(y0, this.y(tile))];
      [x1, y1] = [Math.max(x1, this.x(tile)), Math.max(y1, this.y(tile))];
    }
    const inset = (size - stride) / 2; // overlapping tiles are drawn where they are nearest
    [this.left, this.top] = this.count ? [x0 + inset, y0 + inset] : [0, 0];
    this.columns = this.count ? Math.round((x1 - x0) / stride) + 1 : 0;
    this.rows = this.count ? Math.round((y1 - y0) / stride) + 1 : 0;
    if (this.columns * this.rows > MOST_CELLS)
      throw new Error(`tiles lie on a grid of ${this.columns} × ${this.rows} cells`);
    this.cells = new Int32Array(this.columns * this.rows).fill(-1);
    for (let tile = 0; tile < this.count; tile++) this.cells[this.cellOf(tile)] = tile;
  }

  x = (tile: number): number => this.coords[2 * tile] as number;
  y = (tile: number): number => this.coords[2 * tile + 1] as number;

  cellOf(tile: number): number {
    const column = Math.round((this.x(tile) - this.left + (this.size - this.stride) / 2) / this.stride);
    const row = Math.round((this.y(tile) - this.top + (this.size - this.stride) / 2) / this.stride);
    return row * this.columns + column;
  }

  /** The tile at a point of level 0, or -1. */
  at(x: number, y: number): number {
    const column = Math.floor((x - this.left) / this.stride);
    const row = Math.floor((y - this.top) / this.stride);
    if (column < 0 || row < 0 || column >= this.columns || row >= this.rows) return -1;
    return this.cells[row * this.columns + column] as number;
  }

  /** One pixel per cell: the colour of the tile's value in 0…1, transparent for NaN and where no tile is. */
  image(values: Float32Array, map: ColourMap): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    if (!this.count) return canvas;
    [canvas.width, canvas.height] = [this.columns, this.rows];
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    const pixels = context.createImageData(this.columns, this.rows);
    this.cells.forEach((tile, cell) => {
      const value = tile < 0 ? NaN : (values[tile] as number);
      if (Number.isNaN(value)) return;
      pixels.data.set(colourAt(map, value), 4 * cell);
      pixels.data[4 * cell + 3] = 255;
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  }
}

/** The grid of `grid.safetensors`, or of an attention file where a slide has no other. */
export function gridOf(tensors: Tensors, name: string): TileGrid {
  const coords = Int32Array.from(arrayOf(tensors, "coords", 2, name));
  const size = Number(tensors.metadata.tile_size_level0 ?? spacingOf(coords));
  const stride = Number(tensors.metadata.stride_level0 ?? size);
  if (!(size > 0 && stride > 0)) throw new Error(`${name} does not say how large its tiles are`);
  const measures: Record<string, Float32Array> = {};
  for (const [key] of MEASURES) {
    if (tensors.arrays[key]) measures[key] = Float32Array.from(arrayOf(tensors, key, 1, name));
  }
  return new TileGrid(coords, size, stride, measures);
}

/** The distance between neighbours: the size of tiles in a file that does not state it; NaN: of one tile. */
function spacingOf(coords: Int32Array): number {
  const xs = Float64Array.from({ length: coords.length / 2 }, (_, tile) => coords[2 * tile] as number).sort();
  const gaps = [...xs.keys()]
    .slice(1)
    .map((at) => (xs[at] as number) - (xs[at - 1] as number))
    .filter((gap) => gap > 0);
  if (!gaps.length) return NaN;
  const span = (xs.at(-1) as number) - (xs[0] as number);
  const least = gaps.reduce((found, gap) => Math.min(found, gap));
  return span / Math.round(span / least); // distances that are no whole numbers are rounded one by one
}
