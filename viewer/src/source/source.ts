/** Where the page's data come from: a server, or a bundle beside the page. */
import type { Slide } from "./model";

export class SourceError extends Error {
  /** `gone`: nobody answers; `missing`: there is no such thing; `broken`: it cannot be read. */
  constructor(
    message: string,
    readonly kind: "gone" | "missing" | "broken",
  ) {
    super(message);
  }
}

export interface Source {
  /** Keys are paths below the page's address, such as `data/slides.json`. */
  bytes(key: string): Promise<ArrayBuffer>;
  /** The address of a picture, for `img` and OpenSeadragon. */
  picture(key: string): string;
  /** Browsers do not let a page that was opened from a file read its pictures' pixels. */
  readonly readsPictures: boolean;
  /** What to do when nothing answers. */
  readonly goneAdvice: string;
}

export async function json<T>(source: Source, key: string): Promise<T> {
  const text = new TextDecoder().decode(await source.bytes(key));
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new SourceError(`${key} is not JSON`, "broken");
  }
}

/** Path segments as an address has them. */
export const address = (key: string): string => key.split("/").map(encodeURIComponent).join("/");

export const slideKey = (slide: Pick<Slide, "id">, rest: string): string => `slides/${slide.id}/${rest}`;

/** A function that asks once for each key and remembers the last `size` answers. */
export function remembered<T>(size: number, ask: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const known = new Map<string, Promise<T>>();
  return (key) => {
    const answer = known.get(key) ?? ask(key);
    known.delete(key);
    known.set(key, answer);
    answer.catch(() => known.delete(key)); // a failure is asked again
    if (known.size > size) known.delete(known.keys().next().value as string);
    return answer;
  };
}
