import { arch, platform } from "node:os";
import { Command } from "commander";
import { freeSpace } from "../boot/cache.ts";
import { findOnPath } from "../boot/command.ts";
import { BootError } from "../boot/error.ts";
import type { Job } from "../boot/job.ts";
import { cachedKernelRelease } from "../boot/kernel.ts";
import { debianSources } from "../boot/sources.ts";
import { inspectKit, type KitState, qemuKit, toolchainKit, xzKit } from "../boot/tools.ts";
import { colours } from "./colours.ts";
import { Status } from "./exit.ts";
import type { CommandContext } from "./main.ts";
import { machineOptions } from "./options.ts";

/** One thing the demo needs. */
interface Finding {
  readonly name: string;
  /** `ready`: it is here. `fetch`: it will be downloaded when it is needed. `missing`: the user has to do something. */
  readonly state: "ready" | "fetch" | "missing";
  readonly detail: string;
  /** What to do about it, where something is missing. */
  readonly remedy?: string;
}

/** Everything that is downloaded and built takes about this much of the cache's disk, bytes. */
const spaceNeeded = 1.5 * 2 ** 30;

/** `corevisor doctor`: what is here, what is missing, what to do. */
export function doctorCommand(context: CommandContext): Command {
  return new Command("doctor")
    .description("say what is here, what is missing, and what to do about it")
    .addOption(machineOptions.json)
    .addHelpText("after", "\nExit status: 0 nothing is missing, 1 something is.")
    .action(async ({ json }: { json?: boolean }) => {
      const findings = await examine(context);
      const ok = findings.every(({ state }) => state !== "missing");
      if (json) context.print({ ok, findings });
      else process.stdout.write(format(findings));
      context.finish(ok ? Status.OK : Status.FAILED);
    });
}

async function examine(context: CommandContext): Promise<Finding[]> {
  const findings: Finding[] = [system(), { name: "Node.js", state: "ready", detail: process.version }];
  let job: Job;
  try {
    job = await context.openJob();
  } catch (error) {
    if (!(error instanceof BootError)) throw error;
    const remedy = "set COREVISOR_CACHE to a folder you can write";
    return [...findings, { name: "cache", state: "missing", detail: error.message, remedy }];
  }
  const packages = await packageManager();
  const canFetch = packages.state === "ready";
  findings.push(await cache(job), packages);
  findings.push(
    kit("QEMU", await inspectKit(job, qemuKit), canFetch, "install qemu-system-aarch64 7.2 or newer"),
  );
  findings.push(
    kit("arm64 compiler", await inspectKit(job, toolchainKit), canFetch, "install gcc-aarch64-linux-gnu"),
  );
  findings.push(kit("xz", await inspectKit(job, xzKit), canFetch, "install xz-utils"));
  findings.push(await kernel(job, canFetch));
  findings.push(await command("flock", "util-linux"), await command("setpriv", "util-linux"));
  findings.push(await solver());
  return findings;
}

function system(): Finding {
  const detail = `${platform()} on ${arch()}`;
  if (platform() === "linux") return { name: "system", state: "ready", detail };
  return { name: "system", state: "missing", detail, remedy: "run it on Linux" };
}

async function cache(job: Job): Promise<Finding> {
  const free = await freeSpace(job.cache);
  const detail = `${job.cache.root}, ${(free / 2 ** 30).toFixed(1)} GiB free`;
  if (free >= spaceNeeded) return { name: "cache", state: "ready", detail };
  const remedy =
    "free some space, or set COREVISOR_CACHE to a folder on another disk (1.5 GiB when all is fetched)";
  return { name: "cache", state: "missing", detail, remedy };
}

async function packageManager(): Promise<Finding> {
  const name = "package sources";
  for (const needed of ["apt-get", "apt-cache", "dpkg-deb"]) {
    if ((await findOnPath(needed)) !== undefined) continue;
    return {
      name,
      state: "missing",
      detail: `${needed} is not on PATH`,
      remedy: "install apt and dpkg, on Debian",
    };
  }
  const sources = await debianSources();
  if (sources.length > 0) return { name, state: "ready", detail: `apt, ${sources.length} of Debian's own` };
  return {
    name,
    state: "missing",
    detail: "apt has none of Debian's own",
    remedy: "add Debian to apt's sources",
  };
}

function kit(name: string, found: KitState<string>, canFetch: boolean, remedy: string): Finding {
  switch (found.state) {
    case "path": {
      const [tool] = Object.values(found.tools);
      return { name, state: "ready", detail: `${tool?.version} on PATH (${tool?.command})` };
    }
    case "cached":
      return { name, state: "ready", detail: "in the cache" };
    case "absent":
      if (canFetch) return { name, state: "fetch", detail: found.problem };
      return { name, state: "missing", detail: found.problem, remedy };
  }
}

async function kernel(job: Job, canFetch: boolean): Promise<Finding> {
  const name = "host kernel";
  const release = await cachedKernelRelease(job);
  if (release !== undefined) return { name, state: "ready", detail: `${release} in the cache` };
  const detail = "Debian's Linux 6.12 is not in the cache";
  if (canFetch) return { name, state: "fetch", detail };
  return { name, state: "missing", detail, remedy: "name your own with corevisor run --kernel and --initrd" };
}

async function command(name: string, from: string): Promise<Finding> {
  const path = await findOnPath(name);
  if (path !== undefined) return { name, state: "ready", detail: path };
  return { name, state: "missing", detail: "not on PATH", remedy: `install ${from}` };
}

/** Proofs are made either way; CaDiCaL is faster and gives certificates that can be checked. */
async function solver(): Promise<Finding> {
  const path = await findOnPath("cadical");
  const detail = path === undefined ? "z3 from npm; faster with cadical on PATH" : `CaDiCaL (${path})`;
  return { name: "solver", state: "ready", detail };
}

function format(findings: readonly Finding[]): string {
  const signs = {
    ready: colours.green("ready"),
    fetch: colours.yellow("fetch"),
    missing: colours.red("MISSING"),
  };
  const widest = Math.max(...findings.map(({ name }) => name.length));
  const lines = findings.map(({ name, state, detail, remedy }) => {
    const what = state === "fetch" ? `${detail}; it is downloaded when it is needed` : detail;
    return `${name.padEnd(widest)}   ${signs[state]}   ${what}${remedy ? `; ${remedy}` : ""}`;
  });
  return `${lines.join("\n")}\n`;
}
