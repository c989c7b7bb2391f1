// ROC curves and confusion matrices.
import type { JsonObject } from "@bufbuild/protobuf";

import { number } from "../model/format.js";
import { area, type Classification, classification, type Confusion, type RocPoint, slices } from "../model/metrics.js";

/** What a classification artifact holds, by slice; the name is empty where there are no slices. */
export function drawn(type: string, metadata: JsonObject): [string, Classification][] {
  if (type === "system.ClassificationMetrics") return [["", classification(metadata)]];
  return type === "system.SlicedClassificationMetrics" ? slices(metadata) : [];
}

export function ClassificationView({ metrics }: { metrics: Classification }) {
  return (
    <>
      {metrics.roc.length > 1 ? <Roc points={metrics.roc} /> : null}
      {metrics.confusion ? <Matrix matrix={metrics.confusion} /> : null}
    </>
  );
}

const SIZE = 260;
const PAD = 34;

function Roc({ points }: { points: RocPoint[] }) {
  const x = (value: number) => PAD + value * (SIZE - PAD - 8);
  const y = (value: number) => SIZE - PAD - value * (SIZE - PAD - 8);
  const line = points.map((point) => `${x(point.falsePositiveRate).toFixed(1)},${y(point.recall).toFixed(1)}`).join(" ");
  const under = `${x(points[0]?.falsePositiveRate ?? 0)},${y(0)} ${line} ${x(points[points.length - 1]?.falsePositiveRate ?? 1)},${y(0)}`;
  const auc = area(points).toFixed(3);
  return (
    <figure class="roc">
      <svg viewBox={`0 0 ${SIZE} ${SIZE}`} role="img" aria-label={`ROC curve of ${points.length} points, area ${auc}`}>
        {[0, 0.25, 0.5, 0.75, 1].map((tick) => (
          <g key={tick}>
            <path class="grid" d={`M${x(tick)} ${y(0)}V${y(1)}M${x(0)} ${y(tick)}H${x(1)}`} />
            <text x={x(tick)} y={SIZE - PAD + 14} text-anchor="middle">
              {tick}
            </text>
            <text x={PAD - 6} y={y(tick) + 3} text-anchor="end">
              {tick}
            </text>
          </g>
        ))}
        <path class="chance" d={`M${x(0)} ${y(0)}L${x(1)} ${y(1)}`} />
        <polygon class="under" points={under} />
        <polyline class="curve" points={line} />
        {points.map((point, index) => (
          <circle key={index} class="point" cx={x(point.falsePositiveRate)} cy={y(point.recall)} r="5">
            <title>
              {`threshold ${number(point.threshold)}: true positive rate ${number(point.recall)}, false positive rate ${number(point.falsePositiveRate)}`}
            </title>
          </circle>
        ))}
        <text x={x(0.5)} y={SIZE - 4} text-anchor="middle">
          false positive rate
        </text>
        <text transform={`translate(9 ${y(0.5)}) rotate(-90)`} text-anchor="middle">
          true positive rate
        </text>
      </svg>
      <figcaption>
        ROC curve, area <strong>{auc}</strong>
      </figcaption>
    </figure>
  );
}

function Matrix({ matrix }: { matrix: Confusion }) {
  const all = matrix.rows.flat();
  const most = Math.max(...all, 1);
  const right = matrix.rows.reduce((sum, row, index) => sum + (row[index] ?? 0), 0);
  const total = all.reduce((sum, count) => sum + count, 0);
  return (
    <figure class="matrix">
      <div class="scroll">
        <table aria-label="Confusion matrix">
          <thead>
            <tr>
              <th scope="col" class="corner">
                true \ predicted
              </th>
              {matrix.labels.map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {matrix.rows.map((row, index) => (
              <tr key={index}>
                <th scope="row">{matrix.labels[index]}</th>
                {row.map((count, column) => (
                  <td
                    key={column}
                    class={index === column ? "right" : "wrong"}
                    style={{ "--share": String(count / most) }}
                  >
                    {number(count)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <figcaption>
        Confusion matrix, <strong>{total > 0 ? `${((100 * right) / total).toFixed(1)} %` : "none"}</strong> on the diagonal
      </figcaption>
    </figure>
  );
}
