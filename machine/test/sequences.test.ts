/**
 * Sequences of whatever host, guests and hardware may do, chosen by chance from a fixed seed: after each step every
 * invariant holds, the core has not panicked, guests keep what they wrote and the host sees none of it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cpuModelNames } from "../models.ts";
import { openLab } from "./lab.ts";
import { play, sequence, World } from "./operations.ts";

/** COREVISOR_SEED looks elsewhere, COREVISOR_RUNS longer. */
const seed = Number(process.env.COREVISOR_SEED ?? 20261125);
const numRuns = Number(process.env.COREVISOR_RUNS ?? 40);

/** Layouts of the kernel's structures; table pages, from hardly any to enough. */
const layouts = fc.nat({ max: 1000 });
const pools = fc.constantFrom(200, 200, 30, 12);

for (const model of cpuModelNames) {
  for (const privateVms of [false, true]) {
    test(`${privateVms ? "private" : "ordinary"} VMs on ${model} keep every invariant`, () => {
      const property = fc.property(sequence(300), layouts, pools, (operations, layout, poolPages) => {
        const lab = openLab({ model, privateVms, seed: layout, poolPages, cpus: 3 });
        play(new World(lab).populate(), operations);
      });
      const found = fc.check(property, { seed, numRuns });
      const error = found.errorInstance;
      if (found.failed)
        assert.fail(
          `with layout and pool ${found.counterexample?.slice(1)}: ${error instanceof Error ? error.message : error}`,
        );
    });
  }
}
