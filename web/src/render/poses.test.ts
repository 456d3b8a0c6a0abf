import { describe, expect, it } from "vitest";
import { clipOf } from "../melee/actions";
import { allBodies } from "../melee/characters";
import { newJoints, solve } from "./figure";
import { POSE_SIZE, sampleClip } from "./poses";

describe("poses", () => {
  it("exist for every action state of every fighter, with every joint near the body", () => {
    const pose = new Float32Array(POSE_SIZE);
    const joints = newJoints();
    const stray: string[] = [];
    for (const body of allBodies()) {
      for (let action = 0; action < 400; action++) {
        for (const time of [0, 1.5, 7, 40, 65_535]) {
          sampleClip(clipOf(action, body.id, action % 2 === 0), time, -13, pose);
          solve(body, pose, 10, -5, -1, joints);
          let far = 0;
          for (let i = 0; i < joints.length; i += 2) far = Math.max(far, Math.hypot(joints[i] - 10, joints[i + 1] + 5));
          if (!(far < body.height * 2.6)) stray.push(`${body.name}, action ${action}, frame ${time}: ${far}`);
        }
      }
    }
    expect(stray).toEqual([]);
  });
});
