/** The `microv` program. */

import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Command, CommanderError, Option } from "commander";
import ora from "ora";
import pc from "picocolors";
import {
  type Build,
  type MutateFlags,
  mutateOptions,
  Refusal,
  readBuild,
  runMutate,
  runVerify,
  type Session,
  type VerifyFlags,
  verifyOptions,
} from "./command.ts";
import metadata from "./package.json" with { type: "json" };

/** Exit status: all is well, something failed, bad input. */
const OK = 0;
const FAILED = 1;
const REFUSED = 2;

/** What the compiler is told: functions stay apart, names and source map are kept, and nothing of a runtime comes with it. */
const COMPILER = [
  ...["-O1", "--debug", "--noAssert", "--sourceMap"],
  ...["--runtime", "stub", "--enable", "threads"],
  ...["--initialMemory", "1", "--maximumMemory", "1"],
];

interface Flags {
  readonly claims: string;
  readonly keep: string;
}

/** Compiles an AssemblyScript file. @throws Refusal with the compiler's messages */
async function compile(file: string, folder: string): Promise<Build> {
  if (!existsSync(file)) throw new Refusal(`${file}: there is no such file`, "name an AssemblyScript file");
  const require = createRequire(import.meta.url);
  mkdirSync(folder, { recursive: true });
  const scratch = mkdtempSync(join(folder, "compile-"));
  const output = join(scratch, "core.wasm");
  try {
    const compiler = join(dirname(require.resolve("assemblyscript/package.json")), "bin", "asc.js");
    await promisify(execFile)(
      process.execPath,
      [compiler, basename(file), "--outFile", output, ...COMPILER],
      {
        cwd: dirname(resolve(file)),
        env: {},
      },
    );
    return readBuild(output);
  } catch (error) {
    const words = (error as { stderr?: string }).stderr || String(error);
    throw new Refusal(`${file} does not compile:\n${words.trim()}`, "mend it, or install assemblyscript");
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The absolute path of a file. @throws Refusal when there is none */
function present(file: string): string {
  if (!existsSync(file))
    throw new Refusal(`${file}: there is no such file`, "name a file that exports claimsOf");
  return resolve(file);
}

/** The program's exit status: 0 all is well, 1 something failed, 2 bad input, 130 interrupted. */
export async function main(args: readonly string[]): Promise<number> {
  const controller = new AbortController();
  const interrupt = () => controller.abort(new Error("interrupted"));
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, interrupt);
  const spinner = ora({ stream: process.stderr, discardStdin: false });
  let status = OK;

  const open = async (core: string, flags: Flags): Promise<Session> => ({
    claims: pathToFileURL(present(flags.claims)).href,
    build: core.endsWith(".ts") ? await compile(core, resolve(flags.keep)) : readBuild(core),
    cache: resolve(flags.keep),
    signal: controller.signal,
    colours: pc.createColors(process.stdout.isTTY === true && !process.env.NO_COLOR),
    onProgress: ({ stage, fraction }) => {
      if (!process.stderr.isTTY) return;
      spinner.text = `${stage} ${Math.floor(fraction * 100)}%`;
      if (!spinner.isSpinning) spinner.start();
    },
    stopProgress: () => void spinner.stop(),
    write: (text) => void process.stdout.write(text),
  });
  const program = new Command("microv")
    .description("Proves AssemblyScript cores, compiled to WebAssembly, against contracts")
    .version(metadata.version)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(`microv: ${text.replace(/^error: /, "")}`) });
  const add = (name: string, description: string) =>
    program
      .command(name)
      .description(description)
      .argument("<core>", "a .wasm file, with its source map beside it, or the .ts file to compile")
      .addOption(
        new Option(
          "--claims <file>",
          "the TypeScript file that exports claimsOf and dependencies",
        ).makeOptionMandatory(),
      )
      .addOption(new Option("--keep <folder>", "where answers are kept").default(".microv"));
  verifyOptions(add("verify", "prove every function and lemma")).action(
    async (core: string, flags: Flags & VerifyFlags) => {
      const { summary } = await runVerify(await open(core, flags), flags);
      status = summary.ok ? OK : FAILED;
    },
  );
  mutateOptions(add("mutate", "change the core at random places, and see whether the proof notices")).action(
    async (core: string, flags: Flags & MutateFlags) => {
      const summary = await runMutate(await open(core, flags), flags);
      status = summary.survivors.length === 0 ? OK : FAILED;
    },
  );
  try {
    await program.parseAsync(args, { from: "user" });
    return status;
  } catch (error) {
    spinner.stop();
    if (error instanceof CommanderError) return error.exitCode === 0 ? OK : REFUSED;
    if (controller.signal.aborted) return 130;
    if (error instanceof Refusal) {
      process.stderr.write(`microv: ${error.message}; ${error.remedy}\n`);
      return REFUSED;
    }
    throw error;
  } finally {
    for (const name of ["SIGINT", "SIGTERM"] as const) process.off(name, interrupt);
  }
}
