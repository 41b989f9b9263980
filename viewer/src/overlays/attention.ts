/** What an arm attends to on a slide: weights of tiles that sum to one, and their ranks. */
import { arrayOf, type Tensors } from "../source/safetensors";
import type { TileGrid } from "./tilegrid";

export interface Attention {
  /** By tile of the grid; NaN: the arm did not see the tile. */
  weights: Float32Array;
  /** Percentile in 0…1: 0 the least attended, 1 the most, ties share their mean. */
  ranks: Float32Array;
  /** Tiles by falling weight. */
  order: number[];
  largest: number;
}

/** @throws Error if none of its tiles is one of the grid */
export function attentionOf(tensors: Tensors, grid: TileGrid, name: string): Attention {
  const found = arrayOf(tensors, "attention", 1, name);
  const coords = arrayOf(tensors, "coords", 2, name);
  const weights = new Float32Array(grid.count).fill(NaN);
  for (let n = 0; n < found.length; n++) {
    const [x, y] = [coords[2 * n] as number, coords[2 * n + 1] as number];
    const tile = grid.at(x + grid.size / 2, y + grid.size / 2);
    if (tile >= 0 && grid.x(tile) === x && grid.y(tile) === y) weights[tile] = found[n] as number;
  }
  const seen = [...weights.keys()].filter((tile) => !Number.isNaN(weights[tile]));
  if (!seen.length && found.length) throw new Error(`${name}: its tiles are not those of this slide`);
  const order = seen.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
  return { weights, ranks: ranksOf(weights, order), order, largest: weights[order[0] as number] ?? 0 };
}

/** Ranks over the tiles in `order` (by falling weight). */
export function ranksOf(weights: Float32Array, order: number[]): Float32Array {
  const ranks = new Float32Array(weights.length).fill(NaN);
  const last = order.length - 1;
  for (let begin = 0; begin < order.length;) {
    let end = begin;
    while (end < last && weights[order[end + 1] as number] === weights[order[begin] as number]) end++;
    const rank = last ? (last - (begin + end) / 2) / last : 1;
    for (let at = begin; at <= end; at++) ranks[order[at] as number] = rank;
    begin = end + 1;
  }
  return ranks;
}
