/** Annotations and attended tiles for QuPath: level-0 pixels counted from the corner of what was scanned. */
import { GROUPS } from "../colours";
import type { Annotations, Feature, Info } from "../source/model";
import type { TileGrid } from "../overlays/tilegrid";

const RED = [220, 38, 38];

type Collection = { type: "FeatureCollection"; features: unknown[] };

export function annotationsForQuPath(annotations: Annotations, info: Info): Collection {
  const groups = [...new Set(annotations.features.map(groupOf))];
  const features = annotations.features.map((feature) => ({
    type: "Feature",
    geometry: { ...feature.geometry, coordinates: shifted(feature.geometry.coordinates, info.bounds) },
    properties: {
      objectType: "annotation",
      name: feature.properties.name ?? groupOf(feature),
      classification: { name: groupOf(feature), color: bytes(colourOf(feature, groups)) },
    },
  }));
  return { type: "FeatureCollection", features };
}

/** The most attended tiles, the most attended first. `order`: tiles by falling attention. */
export function attendedForQuPath(grid: TileGrid, weights: Float32Array, order: number[], info: Info): Collection {
  const features = order.map((tile, at) => {
    const [x, y] = [grid.x(tile) - info.bounds[0], grid.y(tile) - info.bounds[1]];
    const ring = [
      [x, y],
      [x + grid.size, y],
      [x + grid.size, y + grid.size],
      [x, y + grid.size],
      [x, y],
    ];
    return {
      type: "Feature",
      geometry: { type: "Polygon", coordinates: [ring] },
      properties: {
        objectType: "annotation",
        name: `attended ${at + 1}`,
        classification: { name: "Attended", color: RED },
        measurements: { attention: weights[tile], rank: at + 1 },
      },
    };
  });
  return { type: "FeatureCollection", features };
}

export const groupOf = (feature: Feature): string =>
  feature.properties.group || (feature.properties.is_lesion ? "lesion" : feature.properties.name) || "annotation";

/** The file's own colour, or one of ours by group. */
export function colourOf(feature: Feature, groups: string[]): string {
  const own = feature.properties.colour;
  return own && CSS.supports("color", own) ? own : (GROUPS[groups.indexOf(groupOf(feature)) % GROUPS.length] as string);
}

function shifted(coordinates: unknown, [x, y]: Info["bounds"]): unknown {
  if (!Array.isArray(coordinates)) return coordinates;
  if (typeof coordinates[0] === "number") return [coordinates[0] - x, (coordinates[1] as number) - y];
  return coordinates.map((inner) => shifted(inner, [x, y, 0, 0]));
}

/** A CSS colour as RGB bytes. */
function bytes(colour: string): number[] {
  const context = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
