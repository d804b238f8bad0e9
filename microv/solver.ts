/**
 * Solvers: whether a set of formulas can hold together.
 *
 * CaDiCaL gets the clauses of `bitblast.ts` and writes a proof that `certificate.ts` can check. z3, cvc5 and bitwuzla get SMT-LIB and are
 * believed. Where nothing native is installed, z3 compiled to WebAssembly (npm `z3-solver`) is used. Whatever goes wrong with a solver
 * (time, memory, a crash, output that makes no sense, a model that is none) is `unknown` with the reason, never `unsat`.
 */

import type { ChildProcess } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { type Blasted, blast } from "./bitblast.ts";
import { digest } from "./canonical.ts";
import type { ProofFormat } from "./certificate.ts";
import { toDimacs } from "./cnf.ts";
import { Evaluator, type Model } from "./evaluate.ts";
import { forkFile } from "./fork.ts";
import { presolve, presolveFor } from "./presolve.ts";
import { type Limits, run, undoneAtExit } from "./process.ts";
import { readModel, toSmtLib } from "./smtlib.ts";
import { FALSE, type Term } from "./term.ts";

/** What the one who asks a question believes the answer to be: solvers search accordingly. */
export type Guess = "sat" | "unsat";

/** A question: can these formulas hold together? What solvers need of it is made once, when first asked for. */
export class Query {
  readonly assertions: readonly Term[];
  readonly guess: Guess;
  private clauses: Blasted | undefined;
  private name: string | undefined;

  constructor(assertions: readonly Term[], guess: Guess = "unsat") {
    this.assertions = assertions;
    this.guess = guess;
  }

  /**
   * For each formula the question whether it can hold together with all of `base`. The clauses are made once for all of them: a question
   * is those and one literal.
   */
  static family(base: readonly Term[], formulas: readonly Term[], guess: Guess): Query[] {
    const lazily = <T>(make: () => T): (() => T) => {
      let made: T | undefined;
      return () => {
        made ??= make();
        return made;
      };
    };
    const common = lazily(() => {
      const simpler = presolveFor(base, formulas);
      return blast(simpler.assertions, simpler.formulas);
    });
    const name = lazily(() => digest(base));
    return formulas.map(
      (formula, i) => new Member(base, formula, guess, () => withLiteral(common(), i), name),
    );
  }

  /** Whether the simplifier has found a contradiction already. */
  get isFalse(): boolean {
    return this.assertions.includes(FALSE);
  }

  get blasted(): Blasted {
    this.clauses ??= this.makeClauses();
    return this.clauses;
  }

  /** Names the question: equal for the same formulas in any run. */
  get digest(): string {
    this.name ??= this.makeDigest();
    return this.name;
  }

  /** Whether a model makes every assertion true. */
  satisfiedBy(model: Model): boolean {
    const evaluator = new Evaluator(model);
    return this.assertions.every((assertion) => evaluator.holds(assertion));
  }

  protected makeClauses(): Blasted {
    return blast(presolve(this.assertions));
  }

  protected makeDigest(): string {
    return digest(this.assertions);
  }
}

/** One of {@link Query.family}. */
class Member extends Query {
  private readonly formula: Term;
  private readonly withClause: () => Blasted;
  private readonly baseDigest: () => string;

  constructor(
    base: readonly Term[],
    formula: Term,
    guess: Guess,
    clauses: () => Blasted,
    name: () => string,
  ) {
    super([...base, formula], guess);
    this.formula = formula;
    this.withClause = clauses;
    this.baseDigest = name;
  }

  protected override makeClauses(): Blasted {
    return this.withClause();
  }

  protected override makeDigest(): string {
    return `${this.baseDigest()} ${digest([this.formula])}`;
  }
}

/** The clauses with the literal of one formula asserted. */
function withLiteral(blasted: Blasted, index: number): Blasted {
  const { variables, count, literals } = blasted.cnf;
  const longer = new Int32Array(literals.length + 2);
  longer.set(literals);
  longer[literals.length] = blasted.literals[index] as number;
  return { ...blasted, cnf: { variables, count: count + 1, literals: longer } };
}

/** A proof as the solver wrote it, not yet checked. */
export interface Proof {
  readonly bytes: Uint8Array;
  readonly format: ProofFormat;
}

export type Answer =
  | { readonly status: "unsat"; readonly solver: string; readonly proof: Proof | undefined }
  | { readonly status: "sat"; readonly solver: string; readonly model: Model }
  | { readonly status: "unknown"; readonly solver: string; readonly reason: string };

export interface Solver {
  /** Name and version, for people and for the record. */
  readonly name: string;
  /** Whether `unsat` comes with a proof when one is asked for. */
  readonly certifies: boolean;
  /** @param certify whether an `unsat` must come with a proof, if the solver can write one */
  solve(query: Query, limits: Limits, certify: boolean): Promise<Answer>;
  /** Ends whatever the solver keeps running. */
  close(): void;
}

/** Runs `work` with a new folder, which is removed whatever happens. */
async function withFolder<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
  // Made at once: a process that ends while the system makes it would leave it behind.
  const folder = mkdtempSync(join(parent, "microv-"));
  return undoneAtExit(
    () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }),
    async () => {
      try {
        return await work(folder);
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  );
}

/** A model counts only if it makes the query true. */
function checkedModel(query: Query, model: Model, solver: string): Answer {
  if (query.satisfiedBy(model)) return { status: "sat", solver, model };
  return { status: "unknown", solver, reason: "the model does not satisfy the query" };
}

/** A way to run something that is no answer, in words. */
function noAnswer(code: number | null, stdout: string, stderr: string): string {
  const text = `${stderr.trim()} ${stdout.trim()}`.trim().slice(0, 300);
  return `no answer: exit status ${code}${text ? `, ${text}` : ""}`;
}

/** Tuned for what is expected; variable elimination makes proofs twice as long and gains no time on these queries. */
const CADICAL_FLAGS = {
  unsat: ["-q", "--unsat", "--elim=0", "--probe=0", "--phase=0"],
  sat: ["-q", "--sat"],
};

class CadicalSolver implements Solver {
  readonly name: string;
  readonly certifies = true;
  private readonly path: string;
  private readonly folder: string;

  constructor(path: string, version: string, folder: string) {
    this.path = path;
    this.folder = folder;
    this.name = `cadical ${version}`;
  }

  solve(query: Query, limits: Limits, certify: boolean): Promise<Answer> {
    return withFolder(this.folder, async (folder): Promise<Answer> => {
      const { blasted, name: solver } = { blasted: query.blasted, name: this.name };
      const [cnf, proof] = [join(folder, "query.cnf"), join(folder, "proof")];
      await writeFile(cnf, toDimacs(blasted.cnf));
      const flags = CADICAL_FLAGS[query.guess];
      const result = await run(this.path, [...flags, cnf, ...(certify ? [proof] : [])], limits);
      if (result.stopped) return { status: "unknown", solver, reason: result.stopped };
      if (result.code === 20 && /^s UNSATISFIABLE$/m.test(result.stdout)) {
        if (!certify) return { status: "unsat", solver, proof: undefined };
        return { status: "unsat", solver, proof: { bytes: await readFile(proof), format: "binary" } };
      }
      if (result.code === 10 && /^s SATISFIABLE$/m.test(result.stdout)) {
        const truths = new Set<number>();
        for (const [, line] of result.stdout.matchAll(/^v (.*)$/gm)) {
          for (const literal of (line as string).split(" ")) truths.add(Number(literal));
        }
        const isTrue = (literal: number) => truths.has(literal);
        return checkedModel(query, blasted.model(isTrue), solver);
      }
      return { status: "unknown", solver, reason: noAnswer(result.code, result.stdout, result.stderr) };
    });
  }

  close(): void {}
}

/** What an SMT-LIB solver printed, as an answer. */
function readSmtAnswer(query: Query, stdout: string, solver: string): Answer | undefined {
  const first = /^\s*(sat|unsat|unknown)\s*$/m.exec(stdout);
  if (!first || stdout.slice(0, first.index).includes("error")) return undefined;
  if (first[1] === "unsat") return { status: "unsat", solver, proof: undefined };
  if (first[1] === "unknown") return { status: "unknown", solver, reason: "the solver gave up" };
  return checkedModel(
    query,
    readModel(query.assertions, stdout.slice(first.index + first[0].length)),
    solver,
  );
}

class SmtSolver implements Solver {
  readonly name: string;
  readonly certifies = false;
  private readonly path: string;
  private readonly flags: readonly string[];
  private readonly folder: string;

  constructor(path: string, name: string, flags: readonly string[], folder: string) {
    this.path = path;
    this.name = name;
    this.flags = flags;
    this.folder = folder;
  }

  solve(query: Query, limits: Limits): Promise<Answer> {
    return withFolder(this.folder, async (folder): Promise<Answer> => {
      const file = join(folder, "query.smt2");
      await writeFile(file, toSmtLib(query.assertions, { values: true }));
      const result = await run(this.path, [...this.flags, file], limits);
      if (result.stopped) return { status: "unknown", solver: this.name, reason: result.stopped };
      const answer = readSmtAnswer(query, result.stdout, this.name);
      const reason = noAnswer(result.code, result.stdout, result.stderr);
      return answer ?? { status: "unknown", solver: this.name, reason };
    });
  }

  close(): void {}
}

/** z3 as WebAssembly, in a process of its own that is killed at the limit, for it cannot be interrupted otherwise. */
class WasmSolver implements Solver {
  readonly name: string;
  readonly certifies = false;
  private child: ChildProcess | undefined;
  private queue: Promise<unknown> = Promise.resolve();

  constructor(version: string) {
    this.name = `z3-solver (WebAssembly) ${version}`;
  }

  /** One query at a time; more wait. */
  solve(query: Query, limits: Limits): Promise<Answer> {
    const answer = this.queue.then(() => this.ask(query, limits));
    this.queue = answer;
    return answer;
  }

  private ask(query: Query, limits: Limits): Promise<Answer> {
    const solver = this.name;
    return new Promise((resolve) => {
      this.child ??= forkFile("z3.worker.ts", { stdio: ["ignore", "ignore", "pipe", "ipc"] });
      const child = this.child;
      let stderr = "";
      const finish = (answer: Answer): void => {
        clearTimeout(timer);
        child.removeAllListeners();
        child.stderr?.removeAllListeners();
        if (answer.status === "unknown") this.close();
        resolve(answer);
      };
      const unknown = (reason: string): void => finish({ status: "unknown", solver, reason });
      const timer = setTimeout(() => unknown(`timeout after ${limits.milliseconds} ms`), limits.milliseconds);
      child.stderr?.on("data", (chunk) => {
        stderr += String(chunk);
      });
      child.on("message", (text: string) => {
        const answer = readSmtAnswer(query, text, solver);
        if (answer) finish(answer);
        else unknown(`no answer: ${text.trim().slice(0, 300)}`);
      });
      child.on("error", (error) => unknown(`cannot start: ${error.message}`));
      child.on("exit", (code, signal) =>
        unknown(`crash: ${signal ?? `exit status ${code}`} ${stderr.trim().slice(0, 300)}`),
      );
      child.send({ text: toSmtLib(query.assertions, { values: true }), megabytes: limits.megabytes });
    });
  }

  close(): void {
    this.child?.kill("SIGKILL");
    this.child = undefined;
  }
}

/** Native programs, in the order in which they are tried. Found under `MICROV_CADICAL` and so on, else on the PATH. */
const NATIVE = ["cadical", "bitwuzla", "cvc5", "z3"] as const;
export type NativeName = (typeof NATIVE)[number];

export interface SolverOptions {
  /** Paths of native solvers, before the environment and the PATH. */
  readonly paths?: Partial<Record<NativeName, string>>;
  /** Only these, by name, out of the native ones and `wasm`; all when omitted. */
  readonly only?: readonly (NativeName | "wasm")[];
  /** Folder for temporary files; the system's by default. */
  readonly folder?: string;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** @throws Error when an option or the environment names a program that cannot be run */
function locate(name: NativeName, options: SolverOptions): string | undefined {
  const variable = `MICROV_${name.toUpperCase()}`;
  const named = options.paths?.[name] ?? process.env[variable];
  if (named) {
    if (!isProgram(named)) throw new Error(`${variable}: ${named} is not a program that can be run`);
    return named;
  }
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    if (folder && isProgram(join(folder, name))) return join(folder, name);
  }
  return undefined;
}

/**
 * The solvers that can be used here, best first. z3 as WebAssembly is among them only when there is no native one. Close them when done:
 * a solver may keep a process running between queries.
 * @throws Error when there is none at all, saying how to get one
 */
export async function findSolvers(options: SolverOptions = {}): Promise<Solver[]> {
  const folder = options.folder ?? tmpdir();
  const wanted = (name: NativeName | "wasm") => !options.only || options.only.includes(name);
  const found: Solver[] = [];
  for (const name of NATIVE) {
    const path = wanted(name) ? locate(name, options) : undefined;
    if (!path) continue;
    const { stdout } = await run(path, ["--version"], { milliseconds: 10_000, megabytes: 1024 });
    const version = /\d+\.\d+(\.\d+)?|\S+/.exec(stdout.split("\n")[0] ?? "")?.[0] ?? "of unknown version";
    if (name === "cadical") found.push(new CadicalSolver(path, version, folder));
    else
      found.push(
        new SmtSolver(path, `${name} ${version}`, name === "cvc5" ? ["--produce-models"] : [], folder),
      );
  }
  if (found.length === 0 && wanted("wasm")) {
    const version = wasmVersion();
    if (version) found.push(new WasmSolver(version));
  }
  if (found.length === 0) throw new Error("no solver: install cadical, or the npm package z3-solver");
  return found;
}

/** Version of the npm package, if it is installed. */
function wasmVersion(): string | undefined {
  try {
    return (createRequire(import.meta.url)("z3-solver/package.json") as { version: string }).version;
  } catch {
    return undefined;
  }
}

/** Asks one solver after the other until one knows. */
export async function solve(
  query: Query,
  solvers: readonly Solver[],
  limits: Limits,
  certify: boolean,
): Promise<Answer> {
  const failures: string[] = [];
  for (const solver of solvers) {
    const answer = await solver.solve(query, limits, certify);
    if (answer.status !== "unknown") return answer;
    failures.push(`${solver.name}: ${answer.reason}`);
  }
  return { status: "unknown", solver: solvers.map((s) => s.name).join(", "), reason: failures.join("; ") };
}
