/** The overlays that are outlines: annotations, and the most attended tiles. */
import { colourOf, groupOf } from "../exports/geojson";
import type { Annotations, Feature } from "../source/model";
import type { Frame, Layer, Legend } from "./layer";
import type { TileGrid } from "./tilegrid";

interface Shape {
  path: Path2D;
  colour: string;
  name: string;
  /** Lines and points enclose nothing. */
  area: boolean;
}

export class AnnotationLayer implements Layer {
  readonly id = "annotations";
  private shapes: Shape[];
  private groups: Map<string, string>;
  private probe = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;

  constructor(annotations: Annotations) {
    const names = [...new Set(annotations.features.map(groupOf))];
    this.groups = new Map(annotations.features.map((feature) => [groupOf(feature), colourOf(feature, names)]));
    this.shapes = annotations.features.map((feature) => shapeOf(feature, names));
  }

  draw(context: CanvasRenderingContext2D, { scale, density }: Frame): void {
    const opacity = context.globalAlpha;
    for (const { path, colour, area } of this.shapes) {
      context.strokeStyle = context.fillStyle = colour;
      context.globalAlpha = opacity * 0.15;
      if (area) context.fill(path, "evenodd");
      context.globalAlpha = opacity;
      context.lineWidth = (2.5 * density) / scale;
      context.stroke(path);
    }
  }

  /** Names of the annotations at a point of level 0. */
  at(x: number, y: number): string[] {
    const inside = this.shapes.filter(({ path, area }) => area && this.probe.isPointInPath(path, x, y, "evenodd"));
    return [...new Set(inside.map(({ name }) => name))];
  }

  legend(): Legend {
    const items = [...this.groups].map(([text, colour]) => ({ text, colour, outline: true }));
    return { kind: "swatches", title: "Annotations", items };
  }
}

function shapeOf(feature: Feature, groups: string[]): Shape {
  const { type, coordinates } = feature.geometry;
  const path = new Path2D();
  const lines = linesOf(type, coordinates);
  for (const line of lines) {
    line.forEach(([x, y], at) => (at ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (type.endsWith("Polygon")) path.closePath();
  }
  const [name, group] = [feature.properties.name, groupOf(feature)];
  return {
    path,
    colour: colourOf(feature, groups),
    name: name && name !== group ? `${group} (${name})` : group,
    area: type.endsWith("Polygon"),
  };
}

type Line = [number, number][];

function linesOf(type: string, coordinates: unknown): Line[] {
  if (type === "Polygon" || type === "MultiLineString") return coordinates as Line[];
  if (type === "MultiPolygon") return (coordinates as Line[][]).flat();
  if (type === "LineString") return [coordinates as Line];
  if (type === "MultiPoint") return (coordinates as Line).map(cross).flat();
  if (type === "Point") return cross(coordinates as [number, number]);
  return [];
}

const cross = ([x, y]: [number, number]): Line[] => [
  [
    [x - 20, y],
    [x + 20, y],
  ],
  [
    [x, y - 20],
    [x, y + 20],
  ],
];

/** Outlines of the most attended tiles, with their places. */
export class TopLayer implements Layer {
  readonly id = "top";

  constructor(
    private grid: TileGrid,
    private order: number[],
    private colour: string,
  ) {}

  draw(context: CanvasRenderingContext2D, { scale, density }: Frame): void {
    const side = Math.max(this.grid.size, (9 * density) / scale); // seen from afar too
    for (const [colour, width] of [
      ["#fff", 5],
      [this.colour, 2.5],
    ] as const) {
      context.strokeStyle = colour;
      context.lineWidth = (width * density) / scale;
      for (const tile of this.order) this.box(context, tile, side);
    }
    if (this.grid.size * scale > 40 * density)
      this.order.forEach((tile, at) => this.number(context, tile, at + 1, scale, density));
  }

  private box(context: CanvasRenderingContext2D, tile: number, side: number): void {
    const inset = (this.grid.size - side) / 2;
    context.strokeRect(this.grid.x(tile) + inset, this.grid.y(tile) + inset, side, side);
  }

  private number(context: CanvasRenderingContext2D, tile: number, place: number, scale: number, density: number): void {
    context.font = `600 ${(13 * density) / scale}px system-ui, sans-serif`;
    const [x, y, pad] = [this.grid.x(tile), this.grid.y(tile), (4 * density) / scale];
    const [width, height] = [context.measureText(String(place)).width + 2 * pad, (18 * density) / scale];
    context.fillStyle = this.colour;
    context.fillRect(x, y, width, height);
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(String(place), x + pad, y + height / 2);
  }
}
