/** Data beside a page that was opened from a file: scripts, as pages from files may not fetch. */
import { address, type Source, SourceError } from "./source";

declare global {
  interface Window {
    /** Base64 by key; each script of a bundle adds its own. */
    wsiBundle: Record<string, string>;
  }
}

export class Bundle implements Source {
  readonly readsPictures = location.protocol !== "file:";
  readonly goneAdvice = "A file of this bundle is missing. Copy the whole folder, not only index.html.";

  constructor() {
    window.wsiBundle = {};
  }

  async bytes(key: string): Promise<ArrayBuffer> {
    await this.load(key);
    const text = window.wsiBundle[key];
    if (text === undefined) throw new SourceError(`${key}.js of this bundle is damaged`, "broken");
    delete window.wsiBundle[key]; // what is remembered is remembered decoded
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  }

  picture(key: string): string {
    return address(key);
  }

  private load(key: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address(key + ".js");
      script.onload = () => resolve();
      script.onerror = () => reject(new SourceError(`${key}: not in this bundle. ${this.goneAdvice}`, "missing"));
      document.head.append(script);
      script.addEventListener("load", () => script.remove());
    });
  }
}
