/** What the page's parts share. */
import type { Overview, Prediction, Predictions, Slide, Task } from "./source/model";
import { json, remembered, type Source, SourceError } from "./source/source";
import type { Keys } from "./page/keys";
import type { Notices } from "./page/notices";
import type { State, Store } from "./state/state";

export class App {
  private asked = remembered(12, (key) => json<Predictions>(this.source, key));

  constructor(
    readonly source: Source,
    readonly overview: Overview,
    readonly slides: Slide[],
    readonly store: Store,
    readonly keys: Keys,
    readonly notices: Notices,
  ) {}

  get state(): Readonly<State> {
    return this.store.state;
  }

  get task(): Task | null {
    return this.overview.tasks.find(({ name }) => name === this.state.task) ?? null;
  }

  get classes(): string[] {
    return this.task?.classes ?? [];
  }

  slide(id: string): Slide | null {
    return this.slides.find((slide) => slide.id === id) ?? null;
  }

  title(arm: string): string {
    return this.task?.arms.find(({ id }) => id === arm)?.title ?? arm;
  }

  /** What an arm of the task says of all slides; null: no such arm. */
  async predictions(arm: string): Promise<Predictions | null> {
    if (!this.task?.arms.some(({ id }) => id === arm)) return null;
    return this.asked(`data/predictions/${this.state.task}/${arm}.json`);
  }

  async prediction(arm: string, slide: Slide): Promise<Prediction | null> {
    return (await this.predictions(arm))?.slides[slide.id] ?? null;
  }

  /** Arms beside the first that attention can be compared with. */
  others(): string[] {
    return (this.task?.arms ?? [])
      .filter(({ id, has_attention: has }) => has && id !== this.state.arm)
      .map(({ id }) => id);
  }

  failed(error: unknown, retry?: () => void): void {
    const gone = error instanceof SourceError && error.kind === "gone";
    this.notices.show((error as Error).message, gone ? retry : undefined);
  }
}
