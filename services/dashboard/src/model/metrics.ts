// What metric artifacts hold, in the shapes that the kfp SDK writes.
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

export interface RocPoint {
  falsePositiveRate: number;
  recall: number;
  /** The confidence from which on a case counts as positive. */
  threshold: number;
}

export interface Confusion {
  labels: string[];
  /** Rows are what is true, columns what was predicted. */
  rows: number[][];
}

export interface Classification {
  roc: RocPoint[];
  confusion: Confusion | undefined;
}

const isObject = (value: JsonValue | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The store wraps lists and objects, so that they are one property. */
function unwrap(value: JsonValue | undefined): JsonValue | undefined {
  if (!isObject(value)) return value;
  const keys = Object.keys(value);
  if (keys.length === 1 && (keys[0] === "list" || keys[0] === "struct")) return value[keys[0]];
  return value;
}

const list = (value: JsonValue | undefined): JsonValue[] => {
  const found = unwrap(value);
  return Array.isArray(found) ? found : [];
};

const numeric = (value: JsonValue | undefined): number => {
  const found = typeof value === "string" ? Number(value) : value;
  return typeof found === "number" ? found : Number.NaN;
};

/** The numbers of a `system.Metrics` artifact by name; other values are left out. */
export function scalars(metadata: JsonObject): [string, number][] {
  return Object.entries(metadata).filter((entry): entry is [string, number] => typeof entry[1] === "number");
}

/** The metadata of a `system.ClassificationMetrics` artifact. */
export function classification(metadata: JsonObject): Classification {
  const roc = list(metadata["confidenceMetrics"])
    .filter(isObject)
    .map((point) => ({
      falsePositiveRate: numeric(point["falsePositiveRate"]),
      recall: numeric(point["recall"]),
      threshold: numeric(point["confidenceThreshold"]),
    }))
    .filter((point) => Number.isFinite(point.falsePositiveRate) && Number.isFinite(point.recall))
    .sort((a, b) => a.falsePositiveRate - b.falsePositiveRate || a.recall - b.recall);
  return { roc, confusion: confusion(unwrap(metadata["confusionMatrix"])) };
}

function confusion(matrix: JsonValue | undefined): Confusion | undefined {
  if (!isObject(matrix)) return undefined;
  const rows = list(matrix["rows"]).map((row) => list(isObject(row) ? row["row"] : row).map(numeric));
  if (rows.length === 0) return undefined;
  const names = list(matrix["annotationSpecs"]).map((spec) =>
    isObject(spec) && typeof spec["displayName"] === "string" ? spec["displayName"] : "",
  );
  return { labels: rows.map((_, index) => names[index] || `class ${index}`), rows };
}

/** The slices of a `system.SlicedClassificationMetrics` artifact, by name. */
export function slices(metadata: JsonObject): [string, Classification][] {
  const found: [string, Classification][] = [];
  for (const [name, value] of Object.entries(metadata)) {
    list(value).concat(isObject(value) ? [value] : []).forEach((entry, index) => {
      if (!isObject(entry)) return;
      const metrics = classification(entry);
      const slice = typeof entry["slice"] === "string" ? entry["slice"] : `${name} ${index}`;
      if (metrics.roc.length > 0 || metrics.confusion) found.push([slice, metrics]);
    });
  }
  return found;
}

/** The area under the curve, by trapezes. */
export function area(roc: readonly RocPoint[]): number {
  let sum = 0;
  roc.slice(1).forEach((point, index) => {
    const before = roc[index] as RocPoint;
    sum += ((point.falsePositiveRate - before.falsePositiveRate) * (point.recall + before.recall)) / 2;
  });
  return sum;
}
