/** A slide with what one arm says of it: a row of the table. */
import type { Prediction, Predictions, Slide } from "../source/model";

export type Outcome = "right" | "wrong" | "unscored" | "failed";

export interface Row {
  slide: Slide;
  label: string | null;
  prediction: Prediction | null;
  outcome: Outcome;
  /** What the search looks through, in small letters. */
  text: string;
}

export const STATUS: Record<string, string> = {
  waiting: "not looked at yet",
  excluded: "excluded",
  missing: "missing",
  unreadable: "cannot be read",
  unreachable: "cannot be reached",
  no_tissue: "no tissue",
};

export function rowsOf(slides: Slide[], task: string, predictions: Predictions | null): Row[] {
  return slides.map((slide) => {
    const prediction = predictions?.slides[slide.id] ?? null;
    const label = slide.labels?.[task] ?? slide.label;
    const words = [slide.id, label, slide.patient, slide.centre, prediction?.predicted, slide.reason];
    const text = [...words, ...(prediction?.unusual ?? [])].filter(Boolean).join("\n").toLowerCase();
    return { slide, label, prediction, outcome: outcomeOf(slide, prediction), text };
  });
}

function outcomeOf(slide: Slide, prediction: Prediction | null): Outcome {
  if (slide.status !== "ok" && slide.status !== "waiting") return "failed";
  if (prediction === null || prediction.correct === null) return "unscored";
  return prediction.correct ? "right" : "wrong";
}

/** Why a slide failed, or null. */
export function failure(slide: Slide): string | null {
  if (slide.status === "ok") return null;
  return slide.reason || (STATUS[slide.status] ?? slide.status);
}
