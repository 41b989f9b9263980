/** Keeps the views' place in the state, and the state's place in the views. */
import type { Store } from "../state/state";
import type { SlideView } from "./view";

/** Of a view that settles; browsers refuse hundreds of addresses a second. */
const AFTER_MS = 200;

export class Placing {
  private timer = 0;
  private own = false;

  constructor(
    private store: Store,
    private views: () => SlideView[],
  ) {
    store.on(["x", "y", "zoom", "rotation"], () => {
      const [view] = this.views();
      if (!this.own && view?.ready) this.restore(view);
    });
  }

  /** The place that the state says, at once; none: the whole slide. */
  restore(view: SlideView): void {
    const { x, y, zoom, rotation } = this.store.state;
    view.go({ rotation }, true);
    if (x === null || y === null || zoom === null) view.osd.viewport.goHome(true);
    else view.go({ x, y, zoom }, true);
  }

  /** A view of the whole slide stays one; others keep their scale. */
  resized(view: SlideView): void {
    if (this.store.state.x === null) view.osd.viewport.goHome(true);
  }

  moved(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.keep(), AFTER_MS);
  }

  private keep(): void {
    const [view] = this.views();
    if (!view?.ready) return;
    const place = view.place();
    this.own = true;
    this.store.set(this.isHome(view) ? { x: null, y: null, zoom: null, rotation: place.rotation } : place);
    this.own = false;
  }

  private isHome(view: SlideView): boolean {
    const { viewport } = view.osd;
    const [now, home] = [viewport.getCenter(true), viewport.getHomeBounds().getCenter()];
    const near = Math.hypot(now.x - home.x, now.y - home.y) < 1e-3;
    return near && Math.abs(viewport.getZoom(true) / viewport.getHomeZoom() - 1) < 0.01; // a pixel of the window's width
  }
}
