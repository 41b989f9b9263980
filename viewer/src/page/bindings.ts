/** Which key does what. */
import type { Actions } from "../slide/actions";
import type { SlidePane } from "../slide/pane";
import { MAGNIFICATIONS } from "../slide/toolbar";
import type { Store } from "../state/state";
import type { TableSide } from "../table/side";
import { OVERLAYS } from "../overlays/panel";
import type { Keys } from "./keys";
import type { ThemeSwitch } from "./theme";

interface Parts {
  keys: Keys;
  actions: Actions;
  pane: SlidePane;
  side: TableSide;
  theme: ThemeSwitch;
  store: Store;
  /** Show or hide a part of the page. */
  toggle: (part: string) => void;
}

export function bindKeys(parts: Parts): void {
  moving(parts);
  seeing(parts);
  page(parts);
}

function moving({ keys, actions }: Parts): void {
  const bind = (names: string[], does: string, run: () => void) => keys.bind("Moving", names, does, run);
  bind(["ArrowLeft"], "move left", () => actions.pan(-1, 0));
  bind(["ArrowRight"], "move right", () => actions.pan(1, 0));
  bind(["ArrowUp"], "move up", () => actions.pan(0, -1));
  bind(["ArrowDown"], "move down", () => actions.pan(0, 1));
  bind(["+", "="], "zoom in", () => actions.zoomBy(1.5));
  bind(["-"], "zoom out", () => actions.zoomBy(1 / 1.5));
  bind(["0"], "whole slide", () => actions.fit());
  MAGNIFICATIONS.forEach((times, at) => bind([String(at + 1)], `${times}×`, () => actions.magnify(times)));
  bind(["r"], "rotate right by 90°", () => actions.rotateBy(90));
  bind(["R"], "rotate left by 90°", () => actions.rotateBy(-90));
}

function seeing({ keys, actions, pane, store }: Parts): void {
  const bind = (names: string[], does: string, run: () => void) => keys.bind("Seeing", names, does, run);
  for (const [id, title, , key] of OVERLAYS)
    bind([key], `${title.toLowerCase()} on or off`, () => pane.panel.toggle(id));
  bind(["w"], "attention as percentile or weight", () =>
    store.set({ attention: store.state.attention === "rank" ? "weight" : "rank" }),
  );
  bind(["c"], "one arm, side by side, difference", () => actions.nextCompare());
  bind(["v"], "speak the values at the cursor or the centre", () => actions.speak());
  bind(["m"], "measure: two clicks, or Enter twice", () => actions.measure());
  bind(["Enter"], "a point of the measurement", () => actions.point());
  bind(["Escape"], "end measuring, then remove what was measured", () => actions.escape());
  bind(["e"], "picture with legend (PNG)", () => void actions.picture());
}

function page({ keys, actions, side, theme, toggle }: Parts): void {
  const bind = (names: string[], does: string, run: () => void) => keys.bind("Page", names, does, run);
  bind(["]"], "next slide of the table", () => side.step(1));
  bind(["["], "previous slide of the table", () => side.step(-1));
  bind(["/"], "search", () => side.bar.search.focus());
  bind(["t"], "table on or off", () => toggle("table"));
  bind(["o"], "list of overlays on or off", () => toggle("overlays"));
  bind(["g"], "gallery on or off", () => toggle("gallery"));
  bind(["f"], "full screen", () => actions.fullScreen());
  bind(["d"], "colours: automatic, light, dark", () => theme.next());
  bind(["?"], "this list", () => keys.help());
}
