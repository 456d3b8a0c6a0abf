/** The figures of an evaluation report that the shelf shows. */

export interface Figures { rc5: number; rc20: number; actionAt10: number | null }
export interface Fidelity extends Figures { starts: number | null; baselines: { name: string; rc20: number }[] }

interface Column { name: string; all: { rc5: number; rc20: number; action?: number[] } }

const BASELINES = ["nothing moves", "constant velocity"];
const HORIZON = 10;

function isColumn(value: unknown): value is Column {
  const all = (value as Partial<Column> | null)?.all;
  return typeof (value as Partial<Column> | null)?.name === "string" && typeof all?.rc5 === "number" && typeof all.rc20 === "number";
}

/** Reads a report; null when there is none, or none of this shape. The integer model's column counts. */
export function readFidelity(report: unknown): Fidelity | null {
  const { columns, about } = (report ?? {}) as { columns?: unknown; about?: { starts?: unknown } };
  if (!Array.isArray(columns)) return null;
  const known = columns.filter(isColumn);
  const own = known.filter((column) => !BASELINES.includes(column.name));
  const best = own.find((column) => /int/i.test(column.name)) ?? own[own.length - 1];
  if (best === undefined) return null;
  return {
    rc5: best.all.rc5, rc20: best.all.rc20, actionAt10: best.all.action?.[HORIZON - 1] ?? null,
    starts: typeof about?.starts === "number" ? about.starts : null,
    baselines: known.filter((column) => BASELINES.includes(column.name)).map((column) => ({ name: column.name, rc20: column.all.rc20 })),
  };
}
