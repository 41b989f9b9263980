/** Which rows are shown, and in which order. */
import type { State } from "../state/state";
import { type Column, columnsOf } from "./columns";
import type { Row } from "./rows";

const COLLATOR = new Intl.Collator("en", { numeric: true });

/** The rows that fit the state's filters, in its order; empty values come last in both directions. */
export function shown(rows: Row[], state: State, classes: string[]): Row[] {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const fitting = rows.filter((row) => fits(row, state, words));
  const descending = state.sort.startsWith("-");
  const column = columnsOf(classes).find(({ key }) => key === state.sort.replace(/^-/, ""));
  return column?.value ? sorted(fitting, column, descending) : fitting;
}

function fits(row: Row, state: State, words: string[]): boolean {
  return (
    (!state.label || row.label === state.label) &&
    (!state.predicted || row.prediction?.predicted === state.predicted) &&
    (!state.outcome || row.outcome === state.outcome) &&
    (!state.centre || row.slide.centre === state.centre) &&
    words.every((word) => row.text.includes(word))
  );
}

function sorted(rows: Row[], column: Column, descending: boolean): Row[] {
  const keyed = rows.map((row) => [column.value!(row), row] as const);
  keyed.sort(([a, first], [b, second]) => {
    if (a === null || b === null) return Number(a === null) - Number(b === null) || byId(first, second);
    const order = typeof a === "number" && typeof b === "number" ? a - b : COLLATOR.compare(String(a), String(b));
    return (descending ? -order : order) || byId(first, second);
  });
  return keyed.map(([, row]) => row);
}

const byId = (a: Row, b: Row): number => COLLATOR.compare(a.slide.id, b.slide.id);

/** Sorted values that occur, for a choice. */
export const valuesOf = (rows: Row[], value: (row: Row) => string | null | undefined): string[] =>
  [...new Set(rows.map(value))].filter((found): found is string => !!found).sort(COLLATOR.compare);
