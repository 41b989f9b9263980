/** A slide's pyramid for OpenSeadragon: levels of any size, each with tiles of its own size. */
import OpenSeadragon from "openseadragon";
import type { Info, Level } from "../source/model";
import { type Source, slideKey } from "../source/source";

/** OpenSeadragon counts levels from the coarsest, the server from the finest. */
export function tileSource(info: Info, source: Source): OpenSeadragon.TileSource {
  const last = info.levels.length - 1;
  const level = (index: number): Level => info.levels[last - index] as Level;
  const tiles = new OpenSeadragon.TileSource({
    width: info.width,
    height: info.height,
    minLevel: 0,
    maxLevel: last,
    tileOverlap: 0,
    ready: true,
  } as OpenSeadragon.TileSourceOptions);
  return Object.assign(tiles, {
    getTileWidth: (index: number) => level(index).tile_width,
    getTileHeight: (index: number) => level(index).tile_height,
    getLevelScale: (index: number) => level(index).width / info.width,
    getNumTiles: (index: number) => new OpenSeadragon.Point(level(index).columns, level(index).rows),
    getTileAtPoint: (index: number, point: OpenSeadragon.Point) => tileAt(level(index), point, info),
    getTileBounds: (index: number, x: number, y: number, inPixels?: boolean) =>
      bounds(level(index), x, y, info, inPixels),
    getTileUrl: (index: number, x: number, y: number) =>
      source.picture(slideKey(info, `tiles/${last - index}/${x}_${y}.jpg`)),
  });
}

/** `point`: 1 is the slide's width, in both directions. */
function tileAt(level: Level, point: OpenSeadragon.Point, info: Info): OpenSeadragon.Point {
  const within = (at: number, count: number) => Math.min(count - 1, Math.max(0, Math.floor(at)));
  const y = (point.y * info.width) / info.height;
  return new OpenSeadragon.Point(
    within((point.x * level.width) / level.tile_width, level.columns),
    within((y * level.height) / level.tile_height, level.rows),
  );
}

/** A level's two axes are each stretched to the slide's own: their sizes are rounded. */
function bounds(level: Level, x: number, y: number, info: Info, inPixels?: boolean): OpenSeadragon.Rect {
  const [left, top] = [x * level.tile_width, y * level.tile_height];
  const width = Math.min(level.tile_width, level.width - left);
  const height = Math.min(level.tile_height, level.height - top);
  if (inPixels) return new OpenSeadragon.Rect(0, 0, width, height);
  const [across, down] = [1 / level.width, info.height / info.width / level.height];
  return new OpenSeadragon.Rect(left * across, top * down, width * across, height * down);
}
