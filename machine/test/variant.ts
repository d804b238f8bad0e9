/**
 * The core with what tests need to see and do inside it: its locks, which it reports, and bugs that a test can switch on by
 * a number (`MachineOptions.mutant`; 0 is none). All are compiled into one module.
 */

import { buildWasm } from "../../kcore/build/wasm.ts";
import { type CoreModule, cacheFolder, coreModule } from "../core.ts";

/**
 * A bug: an expression of the core, or statements, which end in a semicolon; and what is there instead. The source has
 * `right`, followed by `after`, exactly once.
 */
export interface Mutant {
  readonly file: string;
  readonly right: string;
  readonly wrong: string;
  readonly after?: string;
}

const IMPORTS = [
  "mutant(): u32",
  "lock_wanted(lock: u32): void",
  "lock_taken(lock: u32): void",
  "lock_freed(lock: u32): void",
];

/** Replaces the one occurrence of `from`. */
function replaceOnce(name: string, text: string, from: string, to: string): string {
  if (text.split(from).length !== 2) throw new Error(`kcore/${name} does not have exactly one "${from}"`);
  return text.replace(from, () => to);
}

/** The core that reports its locks, with `mutants`: the first has number 1. */
export async function buildVariant(mutants: readonly Mutant[] = []): Promise<CoreModule> {
  const edit = (name: string, source: string): string => {
    let text = source;
    if (name === "machine.ts") text += IMPORTS.map((one) => `export declare function ${one};\n`).join("");
    if (name === "lock.ts") {
      text = text.replace(
        /^import /m,
        'import { lock_freed, lock_taken, lock_wanted } from "./machine";\nimport ',
      );
      text = replaceOnce(name, text, "  const ticket =", "  lock_wanted(lock);\n  const ticket =");
      text = replaceOnce(name, text, "!= ticket) {}\n", "!= ticket) {}\n  lock_taken(lock);\n");
      text = replaceOnce(name, text, "+ 1, SERVING);\n", "+ 1, SERVING);\n  lock_freed(lock);\n");
    }
    const here = mutants
      .map((mutant, n) => ({ ...mutant, number: n + 1 }))
      .filter(({ file }) => file === name);
    for (const { right, wrong, number, after = "" } of here) {
      const isStatement = right.endsWith(";");
      const to = isStatement
        ? `if (mutant() == ${number}) { ${wrong} } else { ${right} }`
        : `(mutant() == ${number} ? ${wrong} : ${right})`;
      text = replaceOnce(name, text, right + after, to + after);
    }
    if (here.length > 0) text = text.replace(/^import /m, 'import { mutant } from "./machine";\nimport ');
    return text;
  };
  return coreModule(await buildWasm(cacheFolder(), edit));
}
