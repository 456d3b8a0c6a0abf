import { expect, it } from "vitest";
import { readFidelity } from "./fidelity";

const column = (name: string, rc5: number, rc20: number): unknown => ({ name, all: { rc5, rc20, action: Array.from({ length: 20 }, (_, i) => 1 - i / 100) } });

it("shows the integer model's figures beside the baselines", () => {
  const report = { about: { starts: 1000 }, columns: [column("melee FP32", 0.4, 2.4), column("melee INT8", 0.41, 2.5), column("nothing moves", 2, 6.4), column("constant velocity", 1, 6.3)] };
  expect(readFidelity(report)).toEqual({ rc5: 0.41, rc20: 2.5, actionAt10: 0.91, starts: 1000, baselines: [{ name: "nothing moves", rc20: 6.4 }, { name: "constant velocity", rc20: 6.3 }] });
});

it("is nothing when there is no report", () => {
  for (const report of [null, undefined, 3, {}, { columns: [] }, { columns: [{ name: "x" }] }]) expect(readFidelity(report)).toBeNull();
});
