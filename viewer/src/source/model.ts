/** What the server, or a bundle, says: the shapes of its JSON. */

export interface Arm {
  id: string;
  title: string;
  has_attention: boolean;
  summary: Record<string, number> | null;
}

export interface Task {
  name: string;
  classes: string[];
  ordinal: boolean;
  arms: Arm[];
  default_arm: string | null;
}

export interface Overview {
  version: number;
  name: string;
  kind: "results" | "slide" | "predictions";
  question: string | null;
  tasks: Task[];
  notes: string[];
  report: string | null;
}

export interface Slide {
  id: string;
  label: string | null;
  labels: Record<string, string | null>;
  patient: string | null;
  centre: string | null;
  status: string;
  reason: string | null;
  tiles: number | null;
  mpp: number | null;
  width: number | null;
  height: number | null;
  thumbnail: boolean;
  has_annotation: boolean;
  has_tiles: boolean;
  /** False: only its bag is here, so it has no pictures to ask for. */
  has_pictures: boolean;
}

export interface Prediction {
  /** Null, without probabilities: only attention is known. */
  predicted: string | null;
  probabilities: number[];
  correct: boolean | null;
  part: string;
  attention_auroc: number | null;
  prediction_set: string[] | null;
  unusual: string[];
  attention: boolean;
}

export interface Predictions {
  arm: string;
  classes: string[];
  slides: Record<string, Prediction>;
}

export interface Level {
  width: number;
  height: number;
  tile_width: number;
  tile_height: number;
  columns: number;
  rows: number;
  downsample: number;
}

export interface Info {
  id: string;
  width: number;
  height: number;
  /** µm per pixel of level 0. */
  mpp: number | null;
  mpp_source: string | null;
  objective_power: number | null;
  reader: string;
  icc: boolean;
  /** What was scanned: x, y, width, height in level-0 pixels. QuPath counts from its corner. */
  bounds: [number, number, number, number];
  levels: Level[];
  mask: { downsample: number } | null;
  error: string | null;
}

export interface Feature {
  type: "Feature";
  geometry: { type: string; coordinates: unknown };
  properties: { name?: string | null; group?: string | null; colour?: string | null; is_lesion?: boolean };
}

export interface Annotations {
  type: "FeatureCollection";
  features: Feature[];
}
