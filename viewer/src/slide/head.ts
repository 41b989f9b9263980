/** What the open slide is: its label, what the arm says, its scale and reader. */
import type { App } from "../app";
import { h } from "../page/dom";
import { probability, significant, whole } from "../page/format";
import type { Info, Prediction, Slide } from "../source/model";

export function headOf(app: App, slide: Slide, info: Info | null, prediction: Prediction | null): Node[] {
  const label = slide.labels?.[app.state.task] ?? slide.label;
  const words = [
    label && `label ${label}`,
    slide.patient && `patient ${slide.patient}`,
    slide.centre && `centre ${slide.centre}`,
  ];
  return [
    h("h2", {}, slide.id),
    h("span", { class: "facts" }, words.filter(Boolean).join(" · ")),
    ...(prediction?.predicted ? [predictionOf(prediction, prediction.predicted, app.classes)] : []),
    ...(info ? [h("span", { class: "muted facts" }, technical(info))] : []),
    ...(prediction?.unusual.length ? [h("span", { class: "unusual" }, `⚠ ${prediction.unusual.join("; ")}`)] : []),
  ];
}

function predictionOf(prediction: Prediction, predicted: string, classes: string[]): HTMLElement {
  const { probabilities, correct, prediction_set: set } = prediction;
  const chance = probabilities[classes.indexOf(predicted)];
  const result = correct === null ? "" : correct ? " ✓ right" : " ✗ wrong";
  const several = set ? ` · set {${set.join(", ")}}` : "";
  const number = chance === undefined ? "" : ` ${probability(chance)}`;
  return h(
    "span",
    { class: `verdict ${correct === null ? "" : correct ? "right" : "wrong"}` },
    `predicted ${predicted}${number}${result}${several}`,
  );
}

function technical(info: Info): string {
  const scale = info.mpp === null ? "µm/px unknown" : `${significant(info.mpp, 4)} µm/px`;
  const power = info.objective_power ? `${significant(info.objective_power)}× objective` : null;
  const colours = info.icc ? "ICC profile not applied" : null;
  return [`${whole(info.width)} × ${whole(info.height)} px`, scale, power, `read by ${info.reader}`, colours]
    .filter(Boolean)
    .join(" · ");
}
