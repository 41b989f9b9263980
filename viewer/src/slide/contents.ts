/** What the views of a slide show, gathered from files that come at different times or not at all. */
import type { Known } from "../overlays/compose";
import type { Info, Prediction, Slide } from "../source/model";
import type { SlideData } from "./data";

export interface Wanted {
  /** `task/aggregator/objective`, or null: no attention. */
  arm: string | null;
  other: string | null;
  titles: { arm: string; other: string };
}

/** Whatever can be read, with what could not be. */
export async function gather(
  data: SlideData,
  slide: Slide,
  info: Info,
  wanted: Wanted,
): Promise<{ known: Known; problems: string[] }> {
  const problems: string[] = [];
  const found = async <T>(promise: Promise<T> | null): Promise<T | null> => {
    try {
      return await promise;
    } catch (error) {
      problems.push((error as Error).message);
      return null;
    }
  };
  const [grid, mask, annotations, attention, other] = await Promise.all([
    found(data.grid(slide, wanted.arm)),
    found(data.mask(slide, info)),
    found(data.annotations(slide)),
    found(wanted.arm === null ? null : data.attention(slide, wanted.arm)),
    found(wanted.other === null ? null : data.attention(slide, wanted.other)),
  ]);
  return {
    known: { info, grid, mask, annotations, attention, other, titles: wanted.titles },
    problems: [...new Set(problems)],
  };
}

/** The path of an arm's attention, if there is one for this slide. */
export const attentionOfArm = (task: string, arm: string, prediction: Prediction | null): string | null =>
  arm && prediction?.attention ? `${task}/${arm}` : null;
