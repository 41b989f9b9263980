/** All that is known of one slide: asked for when it is wanted, remembered for a few slides. */
import { type Attention, attentionOf } from "../overlays/attention";
import { gridOf, type TileGrid } from "../overlays/tilegrid";
import type { Annotations, Info, Slide } from "../source/model";
import { parseSafetensors } from "../source/safetensors";
import { json, remembered, slideKey, type Source } from "../source/source";

/** Slides of 200,000 tiles have some ten megabytes each. */
const SLIDES = 4;

export class SlideData {
  private infos = remembered(64, (key) => json<Info>(this.source, key));
  private grids = remembered(SLIDES, async (key) => gridOf(parseSafetensors(await this.source.bytes(key), key), key));
  private tensors = remembered(4 * SLIDES, async (key) => parseSafetensors(await this.source.bytes(key), key));
  private attentions = remembered(4 * SLIDES, (key) => this.readAttention(key));
  private annotated = remembered(2 * SLIDES, (key) => json<Annotations>(this.source, key));
  private masks = remembered(SLIDES, (key) => picture(this.source.picture(key)));

  constructor(private source: Source) {}

  info = (slide: Slide): Promise<Info> => this.infos(slideKey(slide, "info.json"));

  annotations(slide: Slide): Promise<Annotations> | null {
    return slide.has_annotation ? this.annotated(slideKey(slide, "annotations.json")) : null;
  }

  mask(slide: Slide, info: Info): Promise<HTMLImageElement> | null {
    return info.mask ? this.masks(slideKey(slide, "mask.png")) : null;
  }

  /** The slide's tiles: of its own file, or those that the arm saw. */
  grid(slide: Slide, arm: string | null): Promise<TileGrid> | null {
    if (slide.has_tiles) return this.grids(slideKey(slide, "grid.safetensors"));
    return arm === null ? null : this.grids(attentionKey(slide, arm));
  }

  /** @param arm `task/aggregator/objective` */
  attention(slide: Slide, arm: string): Promise<Attention> {
    return this.attentions(`${slide.has_tiles ? "grid" : arm}\n${slideKey(slide, "")}\n${attentionKey(slide, arm)}`);
  }

  private async readAttention(name: string): Promise<Attention> {
    const [, base, key] = name.split("\n") as [string, string, string];
    const own = name.startsWith("grid\n") ? `${base}grid.safetensors` : key;
    const [grid, tensors] = await Promise.all([this.grids(own), this.tensors(key)]);
    return attentionOf(tensors, grid, key);
  }
}

const attentionKey = (slide: Slide, arm: string): string => slideKey(slide, `attention/${arm}.safetensors`);

function picture(url: string): Promise<HTMLImageElement> {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("the tissue mask cannot be read"));
    image.src = url;
  });
}
