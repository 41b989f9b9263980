/** One view of a slide: OpenSeadragon, and over it a canvas that the overlays are drawn on. */
import OpenSeadragon from "openseadragon";
import { h, onFrame, set } from "../page/dom";
import type { Frame, Layer } from "../overlays/layer";
import type { Info } from "../source/model";
import type { Source } from "../source/source";
import { tileSource } from "./tilesource";

export interface Point {
  x: number;
  y: number;
}

/** Where a view looks: its centre in level-0 pixels, CSS pixels per level-0 pixel, degrees. */
export interface Place extends Point {
  zoom: number;
  rotation: number;
}

export class SlideView {
  readonly element: HTMLElement;
  readonly canvas = h("canvas", { class: "overlay", "aria-hidden": true });
  readonly osd: OpenSeadragon.Viewer;
  layers: { layer: Layer; opacity: number }[] = [];
  /** Drawn above the layers, in CSS pixels of the screen. */
  above: ((context: CanvasRenderingContext2D) => void)[] = [];
  onMove: () => void = () => {};
  onResized: () => void = () => {};
  redraw = onFrame(() => this.draw());

  private caption = h("div", { class: "view-title" });

  /** @param parent where it is put; it must be on the page, as its size decides the zoom */
  constructor(
    private info: Info,
    source: Source,
    parent: HTMLElement,
    failed: () => void,
  ) {
    const stage = h("div", { class: "stage" });
    this.element = h("div", { class: "view" }, stage, this.caption);
    parent.append(this.element);
    keepStyleOut();
    this.osd = new OpenSeadragon.Viewer(settings(stage, info));
    this.osd.addHandler("tile-load-failed", failed);
    this.osd.addHandler("update-viewport", () => this.draw());
    this.osd.addHandler("viewport-change", () => this.onMove());
    this.osd.addHandler("after-resize" as never, () => queueMicrotask(() => this.resized())); // when it has also zoomed
    this.osd.open(tileSource(info, source) as never);
    this.osd.canvas.append(this.canvas);
  }

  set title(title: string) {
    this.caption.textContent = title;
    const canvas = this.osd.canvas;
    const words = {
      role: "application",
      "aria-roledescription": "slide view",
      "aria-label": `Slide ${this.info.id}, ${title}`,
    };
    for (const [name, value] of Object.entries(words)) set(canvas, name, value);
  }

  get ready(): boolean {
    return this.osd.world.getItemCount() > 0;
  }

  whenReady(work: () => void): void {
    if (this.ready) work();
    else this.osd.addOnceHandler("open", work);
  }

  place(current = true): Place {
    const { viewport } = this.osd;
    const centre = viewport.getCenter(current);
    const zoom = (viewport.getZoom(current) * viewport.getContainerSize().x) / this.info.width;
    return {
      x: centre.x * this.info.width,
      y: centre.y * this.info.width,
      zoom,
      rotation: viewport.getRotation(current),
    };
  }

  go(place: Partial<Place>, immediately = false): void {
    const { viewport } = this.osd;
    if (place.rotation !== undefined) viewport.setRotation(place.rotation, immediately || still());
    if (place.zoom !== undefined) {
      viewport.zoomTo(
        (place.zoom * this.info.width) / viewport.getContainerSize().x,
        undefined,
        immediately || still(),
      );
    }
    if (place.x !== undefined && place.y !== undefined) {
      viewport.panTo(
        new OpenSeadragon.Point(place.x / this.info.width, place.y / this.info.width),
        immediately || still(),
      );
    }
    if (!immediately) viewport.applyConstraints();
  }

  home(): void {
    this.osd.viewport.goHome(still());
  }

  /** A point of level 0 in CSS pixels of the view. */
  toScreen({ x, y }: Point): Point {
    return this.osd.viewport.pixelFromPoint(new OpenSeadragon.Point(x / this.info.width, y / this.info.width), true);
  }

  toSlide({ x, y }: Point): Point {
    const point = this.osd.viewport.pointFromPixel(new OpenSeadragon.Point(x, y), true);
    return { x: point.x * this.info.width, y: point.y * this.info.width };
  }

  destroy(): void {
    this.osd.removeAllHandlers("tile-load-failed"); // what is on its way is no failure
    this.osd.imageLoader.clear();
    this.osd.destroy();
    this.element.remove();
  }

  private resized(): void {
    if (this.ready) this.onResized();
    this.redraw();
  }

  private draw(): void {
    if (!this.ready) return;
    const density = devicePixelRatio;
    const size = this.osd.viewport.getContainerSize();
    const [width, height] = [Math.round(size.x * density), Math.round(size.y * density)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d") as CanvasRenderingContext2D;
    this.paint(context, density);
  }

  /** Draw the overlays; also for pictures of the view. */
  paint(context: CanvasRenderingContext2D, density: number): void {
    const size = this.osd.viewport.getContainerSize();
    const [origin, right, down] = [
      { x: 0, y: 0 },
      { x: 1e4, y: 0 },
      { x: 0, y: 1e4 },
    ].map((point) => this.toScreen(point)) as [Point, Point, Point];
    const step = (to: Point, axis: "x" | "y") => ((to[axis] - origin[axis]) / 1e4) * density;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, size.x * density, size.y * density);
    const frame = this.frame(Math.hypot(step(right, "x"), step(right, "y")), density, size);
    for (const { layer, opacity } of this.layers) {
      context.save();
      context.setTransform(
        step(right, "x"),
        step(right, "y"),
        step(down, "x"),
        step(down, "y"),
        origin.x * density,
        origin.y * density,
      );
      context.globalAlpha = opacity;
      layer.draw(context, frame);
      context.restore();
    }
    context.setTransform(density, 0, 0, density, 0, 0);
    for (const draw of this.above) draw(context);
  }

  private frame(scale: number, density: number, size: Point): Frame {
    const corners = [
      { x: 0, y: 0 },
      { x: size.x, y: 0 },
      { x: 0, y: size.y },
      { x: size.x, y: size.y },
    ].map((corner) => this.toSlide(corner));
    const [xs, ys] = [corners.map(({ x }) => x), corners.map(({ y }) => y)];
    const visible = { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) };
    return { scale, density, visible };
  }
}

/**
 * OpenSeadragon adds a style element, which the page's policy forbids, unless it finds one with its
 * mark: this one is of no language, so that no browser takes it for a style.
 */
function keepStyleOut(): void {
  const mark = "data-openseadragon-mobile-css";
  if (document.querySelector(`style[${mark}]`)) return;
  const element = document.createElementNS("urn:wsi-ncmi", "style");
  element.setAttribute(mark, "");
  document.head.append(element);
}

/** People who ask for less motion get none. */
const still = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Of the small view of the whole slide, in CSS pixels. */
const [WIDEST, HIGHEST] = [120, 90];

function settings(element: HTMLElement, info: Info): OpenSeadragon.Options {
  const small = Math.min(WIDEST / info.width, HIGHEST / info.height);
  return {
    element,
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: true,
    navigatorPosition: "TOP_RIGHT",
    navigatorWidth: Math.round(info.width * small),
    navigatorHeight: Math.round(info.height * small),
    navigatorDrawer: "canvas",
    preserveImageSizeOnResize: true,
    keyboardNavEnabled: false, // slide/keys.ts has them
    animationTime: still() ? 0 : 0.5,
    maxZoomPixelRatio: 4,
    minZoomImageRatio: 0.6,
    visibilityRatio: 0.3,
    immediateRender: false,
    imageLoaderLimit: 8,
    maxImageCacheCount: 400,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { pinchRotate: false },
    placeholderFillStyle: "#fff",
  };
}
