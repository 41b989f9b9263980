// Builds the page into the Python package: one script that also runs from a file, one style sheet.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";

const out = new URL("../wsi_ncmi/tools/view/page/", import.meta.url);
const here = (path) => new URL(path, import.meta.url);

await mkdir(out, { recursive: true });
await build({
  entryPoints: [here("src/main.ts").pathname],
  outfile: new URL("viewer.js", out).pathname,
  bundle: true,
  format: "iife",
  target: ["chrome111", "firefox113", "safari16.4"],
  minify: true,
  legalComments: "none", // LICENCES.txt has them
  logLevel: "warning",
});
await copyFile(here("index.html"), new URL("index.html", out));
await copyFile(here("viewer.css"), new URL("viewer.css", out));
const licence = await readFile(here("node_modules/openseadragon/LICENSE.txt"), "utf8");
const { version } = JSON.parse(await readFile(here("node_modules/openseadragon/package.json"), "utf8"));
await writeFile(new URL("LICENCES.txt", out), `viewer.js contains OpenSeadragon ${version}:\n\n${licence}`);
