/** The overlays that are one image each: values of tiles, the tissue mask. */
import type { ColourMap } from "../colours";
import type { Frame, Layer } from "./layer";
import type { TileGrid } from "./tilegrid";

/** Screen pixels of a tile from which its outline is drawn. */
const OUTLINE_FROM = 12;

/** Tiles coloured by a value in 0…1: attention, its difference, a quality. */
export class ValueLayer implements Layer {
  private image: HTMLCanvasElement | null = null;

  constructor(
    readonly id: string,
    private grid: TileGrid,
    private values: Float32Array,
    private map: ColourMap,
  ) {}

  draw(context: CanvasRenderingContext2D): void {
    const { left, top, columns, rows, stride, count } = this.grid;
    if (!count) return;
    this.image ??= this.grid.image(this.values, this.map); // when it is first shown
    context.imageSmoothingEnabled = false;
    context.drawImage(this.image, left, top, columns * stride, rows * stride);
  }
}

/** Where tiles are: their outlines, or from afar the area that they cover. */
export class TilesLayer implements Layer {
  readonly id = "tiles";
  private area: ValueLayer;

  constructor(
    private grid: TileGrid,
    private colour: string,
    map: ColourMap,
  ) {
    this.area = new ValueLayer("area", grid, new Float32Array(grid.count).fill(1), map);
  }

  draw(context: CanvasRenderingContext2D, frame: Frame): void {
    if (this.grid.size * frame.scale < OUTLINE_FROM * frame.density) {
      context.globalAlpha *= 0.5;
      this.area.draw(context);
    } else this.outlines(context, frame);
  }

  private outlines(context: CanvasRenderingContext2D, { scale, density, visible }: Frame): void {
    const { left, top, stride, size, columns, rows, cells } = this.grid;
    const near = (at: number, most: number) => Math.min(most, Math.max(0, Math.floor(at)));
    const [c0, c1] = [
      near((visible.left - left) / stride - 1, columns),
      near((visible.right - left) / stride + 2, columns),
    ];
    const [r0, r1] = [near((visible.top - top) / stride - 1, rows), near((visible.bottom - top) / stride + 2, rows)];
    context.strokeStyle = this.colour;
    context.lineWidth = density / scale;
    context.beginPath();
    for (let row = r0; row < r1; row++) {
      for (let column = c0; column < c1; column++) {
        const tile = cells[row * columns + column] as number;
        if (tile >= 0) context.rect(this.grid.x(tile), this.grid.y(tile), size, size);
      }
    }
    context.stroke();
  }
}

/** The tissue mask: an image that is opaque in tissue, in one colour. */
export class MaskLayer implements Layer {
  readonly id = "mask";
  private tinted: HTMLCanvasElement;

  constructor(
    mask: HTMLImageElement,
    private downsample: number,
    colour: string,
  ) {
    this.tinted = document.createElement("canvas");
    [this.tinted.width, this.tinted.height] = [mask.naturalWidth, mask.naturalHeight];
    const context = this.tinted.getContext("2d") as CanvasRenderingContext2D;
    context.drawImage(mask, 0, 0);
    context.globalCompositeOperation = "source-in"; // without reading pixels: they may come from a file
    context.fillStyle = colour;
    context.fillRect(0, 0, this.tinted.width, this.tinted.height);
  }

  draw(context: CanvasRenderingContext2D): void {
    context.imageSmoothingEnabled = false;
    context.drawImage(this.tinted, 0, 0, this.tinted.width * this.downsample, this.tinted.height * this.downsample);
  }
}
