/** The most and the least attended tiles as pictures; a click goes there. */
import type { Known } from "../overlays/compose";
import { h } from "../page/dom";
import { significant, whole } from "../page/format";
import type { Slide } from "../source/model";
import { slideKey, type Source } from "../source/source";

/** Of each kind; a bundle has pictures of as many. */
export const PICTURES = 12;

export class Gallery {
  readonly element = h("section", { class: "gallery", "aria-label": "Most and least attended tiles", id: "gallery" });

  constructor(
    private source: Source,
    private go: (tile: number) => void,
  ) {}

  show(slide: Slide, known: Known): void {
    const order = known.attention?.order ?? [];
    this.element.hidden = !order.length;
    const least = order.slice(PICTURES).slice(-PICTURES).reverse();
    this.element.replaceChildren(
      this.strip("Most attended", order.slice(0, PICTURES), slide, known),
      ...(least.length ? [this.strip("Least attended", least, slide, known)] : []),
    );
  }

  private strip(title: string, tiles: number[], slide: Slide, known: Known): HTMLElement {
    const pictures = tiles.map((tile) => h("li", {}, this.picture(tile, slide, known)));
    return h("div", { class: "strip" }, h("h3", {}, title), h("ul", {}, ...pictures));
  }

  private picture(tile: number, slide: Slide, known: Known): HTMLElement {
    const weight = significant(known.attention?.weights[tile] as number, 2);
    const rank = Math.round(100 * (known.attention?.ranks[tile] as number));
    const none = h("span", { class: "no-crop" }, "no picture");
    const url = this.source.picture(slideKey(slide, `crops/${tile}.jpg`)); // only of tiles that were made
    const image = slide.has_tiles ? h("img", { src: url, alt: "", loading: "lazy", width: 64, height: 64 }) : none;
    image.addEventListener("error", () => image.replaceWith(none));
    const name = `Tile ${whole(tile)}, attention ${weight}, percentile ${rank}`;
    return h(
      "button",
      {
        type: "button",
        title: name,
        "aria-label": `${name}: go there`,
        "data-tile": tile,
        onclick: () => this.go(tile),
      },
      image,
      h("span", {}, weight),
    );
  }
}
