/** The rows that are shown, as a table with tabs. */
import { columnsOf } from "../table/columns";
import { failure, type Row } from "../table/rows";

const clean = (value: unknown): string => String(value ?? "").replaceAll(/[\t\r\n]+/g, " ");

export function tableText(rows: Row[], classes: string[]): string {
  const columns = columnsOf(classes).filter(({ key, value }) => value && !["outcome", "state", "p"].includes(key));
  const names = columns.map(({ key }) =>
    /^p\d+$/.test(key) ? `probability_${classes[Number(key.slice(1))]}` : NAMES[key],
  );
  const lines = rows.map((row) => [
    ...columns.map((column) => column.value!(row)),
    row.outcome,
    row.prediction?.part,
    row.prediction?.unusual.join("; "),
    row.slide.status,
    failure(row.slide),
  ]);
  const head = [...names, "outcome", "part", "unusual", "status", "reason"];
  return [head, ...lines].map((line) => line.map(clean).join("\t") + "\n").join("");
}

const NAMES: Record<string, string> = {
  slide: "slide_id",
  label: "label",
  predicted: "predicted",
  auroc: "attention_auroc",
  centre: "centre",
  patient: "patient_id",
  tiles: "tiles",
};
