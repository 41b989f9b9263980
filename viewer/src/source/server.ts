/** Data from `wsi-ncmi view`. */
import { address, type Source, SourceError } from "./source";

export class Server implements Source {
  readonly readsPictures = true;
  readonly goneAdvice =
    "The viewer’s server does not answer. Start `wsi-ncmi view` again and open the address that it prints.";

  async bytes(key: string): Promise<ArrayBuffer> {
    let response: Response;
    try {
      response = await fetch(address(key));
    } catch {
      throw new SourceError(this.goneAdvice, "gone");
    }
    if (!response.ok) throw await refusal(response, key);
    return response.arrayBuffer();
  }

  picture(key: string): string {
    return address(key);
  }
}

async function refusal(response: Response, key: string): Promise<SourceError> {
  const said = (await response.json().catch(() => null)) as { error?: string } | null;
  const missing = response.status === 404 || response.status === 410;
  return new SourceError(
    said?.error ?? `${key}: the server answered ${response.status}`,
    missing ? "missing" : "broken",
  );
}
