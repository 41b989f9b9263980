/** The state as the address's fragment, `#slide=s01&arm=abmil/ncmi&…`: what can be sent to a colleague. */
import type { State, Store } from "./state";

const NUMBERS = ["x", "y", "zoom", "rotation"] as const;
const TEXTS = [
  "task",
  "arm",
  "other",
  "compare",
  "slide",
  "q",
  "label",
  "predicted",
  "outcome",
  "centre",
  "sort",
  "attention",
  "quality",
] as const;
const CHOICES: Partial<Record<(typeof TEXTS)[number], string[]>> = {
  compare: ["one", "side", "difference"],
  attention: ["rank", "weight"],
  outcome: ["", "right", "wrong", "unscored", "failed"],
};
const NONE = "none";

/** What differs from the default; `base` has the default task and arm. */
export function write(state: State, base: State): string {
  const parts = new URLSearchParams();
  for (const key of TEXTS) if (state[key] !== base[key]) parts.set(key, state[key]);
  for (const key of NUMBERS) {
    const value = state[key];
    if (value !== null && value !== base[key]) parts.set(key, String(Number(value.toPrecision(7))));
  }
  if (JSON.stringify(state.overlay) !== JSON.stringify(base.overlay)) parts.set("overlay", overlays(state.overlay));
  return parts.toString().replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("%2C", ",");
}

/** The state of a fragment; what it does not say, or says wrongly, is as in `base`. */
export function read(fragment: string, base: State): State {
  const parts = new URLSearchParams(fragment.replace(/^#/, ""));
  const state = { ...base } as Record<keyof State, unknown>;
  for (const key of TEXTS) {
    const value = parts.get(key);
    if (value !== null && (CHOICES[key]?.includes(value) ?? true)) state[key] = value;
  }
  for (const key of NUMBERS) {
    const value = parts.get(key);
    if (value !== null && Number.isFinite(Number(value))) state[key] = Number(value);
  }
  const shown = parts.get("overlay");
  if (shown !== null) state.overlay = opacities(shown);
  return state as unknown as State;
}

const overlays = (overlay: State["overlay"]): string =>
  Object.entries(overlay)
    .map(([id, opacity]) => `${id}:${Number(opacity.toFixed(2))}`)
    .join(",") || NONE;

function opacities(text: string): State["overlay"] {
  if (text === NONE) return {};
  const pairs = text.split(",").map((part) => part.split(":"));
  return Object.fromEntries(pairs.map(([id, value]) => [id, Math.min(1, Math.max(0, Number(value ?? 1) || 0))]));
}

/** Keep the address and the store in step; a slide that is opened is a step back in the browser's history. */
export function keepInAddress(store: Store, base: State): void {
  let timer = 0;
  const update = () => history.replaceState(null, "", "#" + write(store.state, base));
  store.on([], (state, changed) => {
    clearTimeout(timer);
    if (changed.has("slide") && write(state, base) !== location.hash.slice(1)) {
      history.pushState(null, "", "#" + write(state, base));
    } else timer = window.setTimeout(update, 150); // browsers refuse hundreds of changes
  });
  update(); // what could not be followed is not passed on
  addEventListener("hashchange", () => store.set(read(location.hash, base)));
  addEventListener("popstate", () => store.set(read(location.hash, base)));
}
