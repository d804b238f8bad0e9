/** What a core's module may look like, checked on the bytes that ship: the conditions under which a proof of it means anything. */

import { type Func, instructions, type Module } from "./module.ts";

export interface Shape {
  /** Exactly these imports, as `module.field`, in any order. */
  readonly imports: readonly string[];
  /** The only opcodes allowed, by name; all supported ones when omitted. */
  readonly opcodes?: readonly string[];
  /** Exactly these exported names, in any order; anything when omitted. */
  readonly exports?: readonly string[];
}

/**
 * The ways in which `module` departs from `shape`, one sentence each; none when it conforms. Besides the lists in `shape`, a core has
 * no start section, no table, no element, no mutable global, a memory that cannot grow, and no recursion. (Floats, indirect calls,
 * `memory.grow` and `global.set` never get here: `decode` refuses them.)
 */
export function checkShape(module: Module, shape: Shape): string[] {
  const problems: string[] = [];
  const compare = (what: string, actual: readonly string[], expected: readonly string[]): void => {
    for (const name of actual)
      if (!expected.includes(name)) problems.push(`${what} ${name} is not in the list`);
    for (const name of expected) if (!actual.includes(name)) problems.push(`${what} ${name} is missing`);
  };
  compare(
    "import",
    module.imports.map((entry) => entry.name),
    shape.imports,
  );
  if (shape.exports)
    compare(
      "export",
      module.exports.map((entry) => entry.name),
      shape.exports,
    );
  if (module.hasStart) problems.push("there is a start function");
  if (module.tables > 0) problems.push("there is a table");
  if (module.elements > 0) problems.push("there is an element segment");
  for (const [index, global] of module.globals.entries()) {
    if (global.mutable) problems.push(`global ${index} is mutable`);
  }
  if (module.memory && module.memory.max !== module.memory.min) {
    problems.push(`memory may grow from ${module.memory.min} pages to ${module.memory.max ?? "any number"}`);
  }
  if (shape.opcodes) {
    const allowed = new Set(shape.opcodes);
    for (const f of module.functions) {
      for (const instruction of instructions(f.body)) {
        if (!allowed.has(instruction.op)) {
          problems.push(`${f.name} uses ${instruction.op} at byte ${instruction.offset}`);
        }
      }
    }
  }
  const cycle = findRecursion(module);
  if (cycle) problems.push(`recursion: ${cycle.map((f) => f.name).join(" calls ")}`);
  return problems;
}

/** The functions called by `f`, each once. */
export function callees(module: Module, f: Func): Func[] {
  const indices = new Set<number>();
  for (const instruction of instructions(f.body))
    if (instruction.op === "call") indices.add(instruction.index);
  return [...indices].map((index) => module.functions[index] as Func);
}

/** A chain of calls that comes back to where it began, if there is one. */
export function findRecursion(module: Module): Func[] | undefined {
  const finished = new Set<Func>();
  const path: Func[] = [];
  const visit = (f: Func): Func[] | undefined => {
    if (path.includes(f)) return [...path.slice(path.indexOf(f)), f];
    if (finished.has(f)) return undefined;
    path.push(f);
    for (const callee of callees(module, f)) {
      const cycle = visit(callee);
      if (cycle) return cycle;
    }
    path.pop();
    finished.add(f);
    return undefined;
  };
  for (const f of module.functions) {
    const cycle = visit(f);
    if (cycle) return cycle;
  }
  return undefined;
}
