/**
 * Concrete runs: the executor on constants. What proves the core also runs it, so running it against a real engine on random calls
 * tests the very code that the proofs rest on.
 */

import { ExecutionError, Executor } from "./executor.ts";
import { WordMemory } from "./linear.ts";
import type { Obligation } from "./model.ts";
import { decode, type Func, functionNamed, type Module, type ValueType } from "./module.ts";
import type { SourceMap } from "./sourcemap.ts";
import { initialState, type State } from "./state.ts";
import { bv, isConst, type Term } from "./term.ts";

/** What an import does: unsigned arguments to an unsigned result, if it has one. */
export type ConcreteImport = (args: readonly bigint[]) => bigint | undefined;

/** The run broke an obligation: wasm would have trapped, or the access was one the memory model does not allow. */
export class Trap extends Error {
  readonly obligation: Obligation;

  constructor(obligation: Obligation) {
    super(`trap: not ${obligation.name} (${obligation.function}, ${obligation.where})`);
    this.name = "Trap";
    this.obligation = obligation;
  }
}

function constant(term: Term, what: string): bigint {
  if (!isConst(term)) throw new Error(`${what} is not a constant`);
  return term.value;
}

/** An instance of a module whose state persists from call to call. */
export class ConcreteMachine {
  private readonly executor: Executor;
  private readonly module: Module;
  private state: State;

  /** @param imports by `module.field` */
  constructor(module: Module, imports: Record<string, ConcreteImport>, sourceMap?: SourceMap) {
    this.module = module;
    this.state = initialState({ linear: WordMemory.initial(module) });
    const models = Object.fromEntries(
      Object.entries(imports).map(([name, run]) => {
        const width = functionNamed(module, name).results[0];
        return [
          name,
          ({ args }: { args: readonly Term[] }) => {
            const result = run(args.map((arg) => constant(arg, `an argument of ${name}`)));
            return width === undefined ? undefined : bv(result ?? 0n, width);
          },
        ];
      }),
    );
    this.executor = new Executor(module, {
      models,
      sourceMap,
      limits: { iterations: 1_000_000 },
      observe: (event) => {
        if (event.kind === "obligation") throw new Trap(event.obligation);
      },
    });
  }

  /**
   * Calls a function with unsigned arguments; gives its unsigned result, if it has one. A trap leaves the memory as it was.
   * @throws Trap
   */
  call(name: string, ...args: bigint[]): bigint | undefined {
    const f = functionNamed(this.module, name);
    const outcome = this.executor.run(
      f,
      this.state,
      f.params.map((width, i) => bv(args[i] ?? 0n, width)),
    );
    if (!outcome) throw new ExecutionError("no path returns", f.name, "");
    this.state = outcome.state;
    return outcome.result && constant(outcome.result, `the result of ${name}`);
  }

  /** The little-endian word of `bytes` bytes at an aligned address of linear memory. */
  peek(address: number, bytes: number): bigint {
    return constant(
      WordMemory.field(this.state.memories.linear as never, address, bytes),
      `memory at ${address}`,
    );
  }
}

/** A difference between the executor and the engine. */
export interface Difference {
  readonly call: string;
  readonly expected: string;
  readonly actual: string;
}

export interface Comparison {
  readonly calls: number;
  /** Calls that trapped in both. */
  readonly traps: number;
  /** Calls the memory model does not allow, such as unaligned ones, though wasm does; nothing was compared. */
  readonly refused: number;
  readonly differences: readonly Difference[];
}

/** A pseudo-random sequence of 64-bit numbers; small and special ones are as likely as any. */
export function randomNumbers(seed: number): () => bigint {
  let state = BigInt.asUintN(64, BigInt(seed) * 0x9e3779b97f4a7c15n + 1n);
  const next = () => {
    state ^= BigInt.asUintN(64, state << 13n);
    state ^= state >> 7n;
    state ^= BigInt.asUintN(64, state << 17n);
    return state;
  };
  return () => {
    const kind = next() % 6n;
    const value = next();
    if (kind === 0n) return value & 31n;
    if (kind === 1n) return BigInt.asUintN(64, -(value & 3n));
    if (kind === 2n) return 1n << (value & 63n);
    if (kind === 3n) return value & 0xffffn;
    if (kind === 4n) return 0x80000000n + (value & 3n) - 1n;
    return value;
  };
}

interface ImportCall {
  readonly name: string;
  readonly args: readonly bigint[];
  readonly result: bigint;
}

/** One instance in the engine and one in the executor; what imports do in the first is replayed to the second. */
class Pair {
  log: ImportCall[] = [];
  replayed = 0;
  readonly machine: ConcreteMachine;
  private readonly module: Module;
  private readonly instance: WebAssembly.Instance;

  constructor(bytes: Uint8Array, module: Module, random: () => bigint) {
    this.module = module;
    const imports: Record<string, Record<string, unknown>> = {};
    const models: Record<string, ConcreteImport> = {};
    for (const f of module.functions) {
      if (!f.imported) continue;
      const { module: from, field } = f.imported;
      imports[from] ??= {};
      imports[from][field] = (...args: (number | bigint)[]) => {
        const result = f.results[0] ? BigInt.asUintN(f.results[0], random()) : 0n;
        this.log.push({ name: f.name, args: args.map((arg, i) => unsignedValue(arg, f.params[i])), result });
        return f.results[0] && engineValue(result, f.results[0]);
      };
      models[f.name] = (args) => {
        const entry = this.log[this.replayed++];
        if (entry?.name !== f.name || entry.args.join() !== args.join()) {
          throw new Error(`import ${this.replayed}: ${f.name}(${args}), not ${entry?.name}(${entry?.args})`);
        }
        return entry.result;
      };
    }
    this.instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports);
    this.machine = new ConcreteMachine(module, models);
  }

  /** The result of one call in the engine, then in the executor. */
  call(f: Func, args: readonly bigint[]): { expected: Attempt; actual: Attempt } {
    this.log = [];
    this.replayed = 0;
    const name = f.exports[0] as string;
    const expected = attempt(() => {
      const run = this.instance.exports[name] as (
        ...args: (number | bigint)[]
      ) => number | bigint | undefined;
      const result = run(...args.map((arg, i) => engineValue(arg, f.params[i] as ValueType)));
      return result === undefined ? undefined : unsignedValue(result, f.results[0]);
    });
    const actual = attempt(() => this.machine.call(name, ...args));
    return { expected, actual };
  }

  /** The first address at which the linear memories differ. */
  memoryDifference(): string | undefined {
    const exported = this.module.exports.find((e) => e.kind === "memory")?.name;
    if (!exported) return undefined;
    const words = new BigUint64Array((this.instance.exports[exported] as WebAssembly.Memory).buffer);
    for (const [i, expected] of words.entries()) {
      const actual = this.machine.peek(8 * i, 8);
      if (actual !== expected) return `memory at ${8 * i} is ${actual}, not ${expected}`;
    }
    return undefined;
  }
}

interface Attempt {
  readonly text: string;
  readonly refused: boolean;
}

function attempt(run: () => bigint | undefined): Attempt {
  try {
    return { text: String(run() ?? "nothing"), refused: false };
  } catch (error) {
    if (error instanceof Trap) return { text: "trap", refused: error.obligation.kind === "memory" };
    if (error instanceof WebAssembly.RuntimeError) return { text: "trap", refused: false };
    return { text: String(error), refused: false };
  }
}

function engineValue(value: bigint, width: ValueType): number | bigint {
  return width === 64 ? BigInt.asIntN(64, value) : Number(BigInt.asIntN(32, value));
}

function unsignedValue(value: number | bigint, width: ValueType | undefined): bigint {
  return BigInt.asUintN(width ?? 64, BigInt(value));
}

/**
 * Calls exported functions at random in the engine of this process and in the executor, and compares results, traps, import calls and
 * linear memory. Imports return random numbers, the same to both. After a trap both start anew.
 * @param options.arguments makes the arguments of a call, where random ones would be pointless
 */
export function compareWithEngine(
  bytes: Uint8Array,
  options: {
    calls: number;
    seed: number;
    arguments?: (name: string, random: () => bigint) => bigint[] | undefined;
  },
): Comparison {
  const module = decode(bytes);
  const random = randomNumbers(options.seed);
  const functions = module.functions.filter((f) => f.exports.length > 0 && !f.imported);
  const differences: Difference[] = [];
  let [traps, refused] = [0, 0];
  let pair = new Pair(bytes, module, random);
  for (let i = 0; i < options.calls; i++) {
    const f = functions[Number(random() % BigInt(functions.length))] as Func;
    const given = options.arguments?.(f.exports[0] as string, random) ?? f.params.map(random);
    const args = given.map((arg, j) => unsignedValue(arg, f.params[j]));
    const { expected, actual } = pair.call(f, args);
    const call = `${f.exports[0]}(${args.join(", ")})`;
    if (!actual.refused && (expected.text !== actual.text || pair.replayed !== pair.log.length)) {
      differences.push({ call, expected: expected.text, actual: actual.text });
    }
    if (actual.refused) refused++;
    else if (expected.text === "trap") traps++;
    const last = i === options.calls - 1;
    if (!actual.refused && expected.text !== "trap" && !last) continue;
    const memory = last && !actual.refused && expected.text !== "trap" ? pair.memoryDifference() : undefined;
    if (memory) differences.push({ call, expected: "equal memories", actual: memory });
    pair = new Pair(bytes, module, random);
  }
  return { calls: options.calls, traps, refused, differences };
}
