/** Arrays of a safetensors file: a header's length, a JSON header, the arrays' bytes. */
import { SourceError } from "./source";

type Numbers = Float32Array | Int32Array | Float64Array;

export interface Tensors {
  arrays: Record<string, { data: Numbers; shape: number[] }>;
  metadata: Record<string, string>;
}

const TYPES = { F32: Float32Array, I32: Int32Array, F64: Float64Array } as const;

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

export function parseSafetensors(bytes: ArrayBuffer, name: string): Tensors {
  try {
    return parse(bytes);
  } catch (error) {
    throw new SourceError(`${name} cannot be read: ${(error as Error).message}`, "broken");
  }
}

function parse(bytes: ArrayBuffer): Tensors {
  const length = Number(new DataView(bytes).getBigUint64(0, true));
  const { __metadata__: metadata = {}, ...entries } = JSON.parse(
    new TextDecoder().decode(new Uint8Array(bytes, 8, length)),
  ) as Record<string, never>;
  const arrays: Tensors["arrays"] = {};
  for (const [key, entry] of Object.entries(entries as Record<string, Entry>)) {
    const type = TYPES[entry.dtype as keyof typeof TYPES];
    if (!type) throw new Error(`numbers of type ${entry.dtype}`);
    const [begin, end] = entry.data_offsets;
    arrays[key] = { data: new type(bytes.slice(8 + length + begin, 8 + length + end)), shape: entry.shape };
  }
  return { arrays, metadata };
}

/** An array `[N]` or `[N, 2]`, with its shape checked. */
export function arrayOf(tensors: Tensors, key: string, columns: 1 | 2, name: string): Numbers {
  const found = tensors.arrays[key];
  const fits = found && (columns === 1 ? found.shape.length === 1 : found.shape.length === 2 && found.shape[1] === 2);
  if (!fits) throw new SourceError(`${name}: ${key} has shape [${found?.shape ?? "none"}]`, "broken");
  return found.data;
}
