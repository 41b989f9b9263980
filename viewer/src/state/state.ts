/** What is looked at, and how: all of it stands in the address. */

export type Compare = "one" | "side" | "difference";
export type Weighting = "rank" | "weight";

export interface State {
  task: string;
  /** `aggregator/objective`; empty: no arm. */
  arm: string;
  /** The arm it is compared with; empty: none. */
  other: string;
  compare: Compare;
  slide: string;
  q: string;
  label: string;
  predicted: string;
  outcome: string;
  centre: string;
  /** A column's key, with a minus for the largest first. */
  sort: string;
  /** The view's centre in level-0 pixels, and screen pixels per level-0 pixel; null: all of the slide. */
  x: number | null;
  y: number | null;
  zoom: number | null;
  /** Degrees, clockwise. */
  rotation: number;
  /** Opacity of each overlay that is shown. */
  overlay: Record<string, number>;
  attention: Weighting;
  quality: string;
}

export const DEFAULT: State = {
  task: "",
  arm: "",
  other: "",
  compare: "one",
  slide: "",
  q: "",
  label: "",
  predicted: "",
  outcome: "",
  centre: "",
  sort: "",
  x: null,
  y: null,
  zoom: null,
  rotation: 0,
  overlay: { attention: 0.55, annotations: 0.9 },
  attention: "rank",
  quality: "tissue_fraction",
};

type Listener = (state: State, changed: Set<keyof State>) => void;

/** The state, and who wants to know when it changes. */
export class Store {
  private listeners: Listener[] = [];

  constructor(private current: State) {}

  get state(): Readonly<State> {
    return this.current;
  }

  set(change: Partial<State>): void {
    const before = this.current;
    this.current = { ...before, ...change };
    const keys = Object.keys(change) as (keyof State)[];
    const changed = new Set(keys.filter((key) => !same(before[key], this.current[key])));
    if (changed.size) for (const listener of this.listeners) listener(this.current, changed);
  }

  /** Call `listener` after changes of one of `keys` (none: of any). */
  on(keys: (keyof State)[], listener: Listener): void {
    this.listeners.push((state, changed) => {
      if (!keys.length || keys.some((key) => changed.has(key))) listener(state, changed);
    });
  }
}

const same = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b);
