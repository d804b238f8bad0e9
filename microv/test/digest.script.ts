/** Run by a test in a process of its own: makes a formula's terms in the order that is asked for, and prints what depends on it. */
import { blast } from "../bitblast.ts";
import { add, and, band, mul, ne, ult } from "../build.ts";
import { digest } from "../canonical.ts";
import { apply, type Term, variable } from "../term.ts";

const names = process.argv[2] === "backward" ? ["z", "y", "x"] : ["x", "y", "z"];
for (const name of names) apply("f", 8, variable(name, 8));
const [x, y, z] = ["x", "y", "z"].map((name) => variable(name, 8)) as [Term, Term, Term];
const formula = and(
  ult(mul(apply("f", 8, x), apply("f", 8, y)), apply("f", 8, z)),
  ne(band(y, x), apply("f", 8, add(x, z, y))),
);
console.log(JSON.stringify({ digest: digest([formula]), cnf: [...blast([formula]).cnf.literals] }));
