/** The table's columns: what they are called, sort by, show and export. */
import { h } from "../page/dom";
import { probability, whole } from "../page/format";
import { failure, type Row, STATUS } from "./rows";

export interface Column {
  key: string;
  title: string;
  /** Class of its cells, which has their width. */
  style: string;
  /** What it sorts by and exports; none: neither. */
  value?: (row: Row) => string | number | null;
  cell: (row: Row) => Node | string;
}

/** What stands around a text, and before that of a class; the widest column that is not given more, in CSS pixels. */
const [AROUND, DOT] = [20, 13];
export const MOST = 260;
const TEXTS = new Set(["id", "class", "word", "number"]);

/** Widths that fit all rows, so that columns stay where they are while rows come and go. */
export function widthsOf(columns: Column[], rows: Row[]): Map<string, number> {
  const widths = new Map<string, number>();
  const [plain, bold] = [measuring(400), measuring(600)];
  for (const { key, title, style, value } of columns) {
    if (!value || !TEXTS.has(style)) continue;
    const measure = style === "id" ? bold : plain;
    const texts = new Set(style === "number" ? [] : rows.map((row) => String(value(row) ?? "")));
    let longest = bold(title);
    for (const text of texts) longest = Math.max(longest, measure(text));
    widths.set(key, Math.ceil(longest) + AROUND + (style === "class" ? DOT : 0));
  }
  return widths;
}

/** How wide a text is in the page's font, which is another one on each system. */
function measuring(weight: number): (text: string) => number {
  const context = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
  const { fontSize, fontFamily } = getComputedStyle(document.body);
  context.font = `${weight} ${fontSize} ${fontFamily}`;
  return (text) => context.measureText(text).width;
}

const MARKS = { right: ["✓", "right"], wrong: ["✗", "wrong"], unscored: ["–", "not scored"], failed: ["!", "failed"] };

/** The columns of a task with these classes. */
export function columnsOf(classes: string[]): Column[] {
  if (!classes.length) return [SLIDE, ...REST, STATE]; // slides alone, or attention alone
  return [
    SLIDE,
    label(classes),
    prediction(classes),
    OUTCOME,
    probabilities(classes),
    ...REST,
    ...classes.map(classColumn),
    STATE,
  ];
}

const SLIDE = text("slide", "Slide", "id", (row) => row.slide.id);

const label = (classes: string[]): Column => ({
  ...text("label", "Label", "class", (row) => row.label),
  cell: (row) => h("span", { class: "cut", title: row.label }, dot(classes, row.label), row.label ?? ""),
});

const prediction = (classes: string[]): Column => ({
  ...text("predicted", "Prediction", "class", (row) => row.prediction?.predicted ?? null),
  cell: (row) => predicted(row, classes),
});

const OUTCOME: Column = {
  key: "outcome",
  title: "✓/✗",
  style: "mark",
  value: (row) => ["failed", "wrong", "right", "unscored"].indexOf(row.outcome),
  cell: ({ outcome }) => {
    const [sign, word] = MARKS[outcome] as [string, string];
    return h("span", { class: `mark ${outcome}`, title: word, "aria-label": word, role: "img" }, sign);
  },
};

/** The class's colour in the bar of probabilities. */
const dot = (classes: string[], name: string | null): HTMLElement | null =>
  name !== null && classes.includes(name)
    ? h("span", { class: `dot c${classes.indexOf(name) % 8}`, "aria-hidden": true })
    : null;

const REST: Column[] = [
  numeric("auroc", "Attention AUROC", (row) => row.prediction?.attention_auroc ?? null, probability),
  text("centre", "Centre", "word", (row) => row.slide.centre),
  text("patient", "Patient", "word", (row) => row.slide.patient),
  numeric("tiles", "Tiles", (row) => row.slide.tiles, whole),
];

const STATE: Column = {
  key: "state",
  title: "State",
  style: "state",
  value: (row) => (row.slide.status === "ok" ? null : (STATUS[row.slide.status] ?? row.slide.status)),
  cell: state,
};

function text(key: string, title: string, style: string, value: (row: Row) => string | null): Column {
  const cell = (row: Row) => h("span", { class: "cut", title: value(row) ?? undefined }, value(row) ?? "");
  return { key, title, style, value, cell };
}

function numeric(
  key: string,
  title: string,
  value: (row: Row) => number | null,
  format: (number: number) => string,
): Column {
  const cell = (row: Row) => (value(row) === null ? "" : format(value(row) as number));
  return { key, title, style: "number", value, cell };
}

function predicted(row: Row, classes: string[]): Node | string {
  const status = row.slide.status;
  if (!row.prediction?.predicted) return row.outcome === "failed" ? failed(row, STATUS[status] ?? status) : "";
  const { predicted: name, unusual, prediction_set: set } = row.prediction;
  const notes = [...(set ? [`prediction set: ${set.join(", ") || "empty"}`] : []), ...unusual];
  const title = [name, ...notes].join("\n");
  const sign = unusual.length
    ? h("span", { class: "unusual", role: "img", "aria-label": unusual.join("; ") }, " ⚠")
    : null;
  return h("span", { class: "cut", title }, dot(classes, name), name, sign);
}

const failed = (row: Row, text: string): Node => h("span", { class: "cut failed", title: failure(row.slide) }, text);

function state(row: Row): Node | string {
  const why = failure(row.slide);
  if (why !== null) return failed(row, why);
  return h("span", { class: "cut" }, row.prediction?.unusual.join("; ") ?? "");
}

/** All probabilities as one bar; sorts by that of the predicted class. */
function probabilities(classes: string[]): Column {
  return {
    key: "p",
    title: "Probabilities",
    style: "bar",
    value: ({ prediction }) => (prediction?.predicted ? Math.max(...prediction.probabilities) : null),
    cell: ({ prediction }) => (prediction?.predicted ? bar(classes, prediction.probabilities) : ""),
  };
}

function bar(classes: string[], values: number[]): HTMLElement {
  const words = classes.map((name, at) => `${name} ${probability(values[at] ?? 0)}`).join(", ");
  const parts = values.map((value, at) => {
    const part = h("span", { class: `part c${at % 8}` });
    part.style.flexGrow = String(value);
    return part;
  });
  const largest = h("span", { class: "largest", "aria-hidden": "true" }, probability(Math.max(...values)));
  return h(
    "span",
    { class: "probabilities", role: "img", "aria-label": words, title: words },
    largest,
    h("span", { class: "parts" }, ...parts),
  );
}

const classColumn = (name: string, at: number): Column =>
  numeric(`p${at}`, `p ${name}`, (row) => row.prediction?.probabilities[at] ?? null, probability);
