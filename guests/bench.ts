import { z } from "zod";
import type { Job } from "../boot/job.ts";
import { GiB } from "../boot/layout.ts";
import { SerialLines } from "../boot/qemu.ts";
import { bootHost, type HostEnd } from "../boot/system.ts";
import type { Tools } from "../boot/tools.ts";
import { buildGuests } from "./build.ts";

/** The hosts that are compared: Debian's kernel with its own KVM in both modes, and on the core. */
export type Contender = "nvhe" | "protected" | "kcore";

const contenders = ["nvhe", "protected", "kcore"] as const;

const titles: Readonly<Record<Contender, string>> = {
  nvhe: "stock nVHE",
  protected: "stock protected",
  kcore: "Corevisor",
};

/** Kinds of exit, by the name that the step in the host reports, and what they are for a reader. */
const exits: ReadonlyMap<string, string> = new Map([
  ["hypercall", "hypercall"],
  ["psci-version", "PSCI call"],
  ["mmio-user", "MMIO read to user space"],
  ["qemu-mmio-user", "MMIO read to QEMU"],
  ["mmio-vgic", "MMIO read in the vGIC"],
  ["ipi", "IPI, vCPU to vCPU"],
  ["timer", "timer interrupt"],
  ["stage-2-fault", "stage 2 fault, fresh page"],
]);

type PerContender = Record<Contender, number>;

/** What one kind of exit costs, in instructions that the machine executes from the guest's request to its next instruction. */
export interface BenchRow extends Readonly<PerContender> {
  readonly exit: string;
}

/** What the host pays whether or not it runs VMs, in seconds of this machine: comparable with each other only. */
export interface HostCosts {
  /** From the machine's first instruction to the host's /init. */
  readonly bootSeconds: Readonly<PerContender>;
  /** 300 times fork and exec of a static program. */
  readonly forkExecSeconds: Readonly<PerContender>;
}

export interface Bench {
  readonly rows: readonly BenchRow[];
  readonly host: HostCosts;
}

/** A bench event or a sign of how far the host is. */
const eventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("up") }),
  z.object({ event: z.literal("bench"), exit: z.string(), instructions: z.number().positive() }),
  z.object({
    event: z.literal("fork-exec"),
    count: z.number().positive(),
    microseconds: z.number().positive(),
  }),
]);

type BenchEvent = z.infer<typeof eventSchema>;

/** The bench event in a line of the host's console, or undefined. */
export function parseBenchLine(line: string): BenchEvent | undefined {
  const json = /@corevisor (\{.*\})\s*$/.exec(line)?.[1];
  if (json === undefined) return undefined;
  try {
    return eventSchema.safeParse(JSON.parse(json)).data;
  } catch {
    return undefined;
  }
}

/** Virtual time that counts instructions: the same run gives the same numbers on any machine. */
const countInstructions = ["-icount", "shift=0,sleep=off"];

export interface BenchOptions {
  /** QEMU's name of the CPU model; `cortex-a76` when none is named. */
  readonly cpu?: string;
  /** Longest time that one host may take, seconds. */
  readonly timeout?: number;
}

/** A host that was to be measured did not report what it should have. */
export class BenchError extends Error {
  override readonly name = "BenchError";
}

/** How often each host is booted to time it; the fastest one counts. */
const timedRounds = 3;

/**
 * Measures what VM exits cost, on two CPUs, with a clock that counts instructions; and what the host itself pays, with the usual
 * clock, where contenders take turns because other work of this machine is in the numbers too.
 * @throws BootError when something is missing
 * @throws BenchError when a host does not report all, with the end of its console
 */
export async function measure(job: Job, tools: Tools, options: BenchOptions = {}): Promise<Bench> {
  const costs = {} as Record<Contender, Map<string, number>>;
  for (const contender of contenders) {
    job.onProgress({ stage: `measuring exits: ${titles[contender]}` });
    const counted = await run(job, tools, contender, "bench", countInstructions, options);
    const found = counted.events.flatMap((event) =>
      event.event === "bench" ? [[event.exit, event.instructions] as const] : [],
    );
    costs[contender] = new Map(found);
    for (const exit of exits.keys()) if (!costs[contender].has(exit)) throw missing(contender, exit, counted);
  }
  const host: { bootSeconds: PerContender; forkExecSeconds: PerContender } = {
    bootSeconds: { nvhe: Infinity, protected: Infinity, kcore: Infinity },
    forkExecSeconds: { nvhe: Infinity, protected: Infinity, kcore: Infinity },
  };
  for (let round = 1; round <= timedRounds; round++) {
    for (const contender of contenders) {
      job.onProgress({ stage: `measuring the host, ${round} of ${timedRounds}: ${titles[contender]}` });
      const timed = await run(job, tools, contender, "host-cost", [], options);
      const program = timed.events.find((event) => event.event === "fork-exec");
      if (program === undefined || timed.bootSeconds === undefined)
        throw missing(contender, "fork-exec", timed);
      const { bootSeconds, forkExecSeconds } = host;
      const seconds = ((program.microseconds / 1e6) * 300) / program.count;
      bootSeconds[contender] = Math.min(bootSeconds[contender], timed.bootSeconds);
      forkExecSeconds[contender] = Math.min(forkExecSeconds[contender], seconds);
    }
  }
  return {
    rows: [...exits].map(([name, exit]) => ({
      exit,
      nvhe: costs.nvhe.get(name) ?? 0,
      protected: costs.protected.get(name) ?? 0,
      kcore: costs.kcore.get(name) ?? 0,
    })),
    host,
  };
}

interface Measured {
  readonly events: readonly BenchEvent[];
  /** From the start of the machine to /init. */
  readonly bootSeconds: number | undefined;
  readonly end: HostEnd;
  readonly console: string;
}

/** Boots a contender for one step and listens. */
async function run(
  job: Job,
  tools: Tools,
  contender: Contender,
  step: string,
  qemuArgs: readonly string[],
  options: BenchOptions,
): Promise<Measured> {
  const events: BenchEvent[] = [];
  let started = performance.now();
  let bootSeconds: number | undefined;
  let console = "";
  const lines = new SerialLines((line) => {
    const event = parseBenchLine(line);
    if (event?.event === "up") bootSeconds ??= (performance.now() - started) / 1000;
    if (event) events.push(event);
  });
  const mode = contender === "nvhe" ? "nvhe" : "protected";
  const end = await bootHost(job, tools, {
    core: contender === "kcore" ? "on" : "off",
    vms: "ordinary",
    cpu: options.cpu ?? "cortex-a76",
    cpus: 2,
    memory: GiB,
    qemuArgs,
    append: `quiet kvm-arm.mode=${mode} corevisor.steps=${step}`,
    timeout: options.timeout ?? 400,
    extraFiles: (await buildGuests(job, tools)).bench,
    onStart: () => {
      started = performance.now();
    },
    onSerial: (bytes) => {
      console = (console + bytes.toString("latin1")).slice(-2000);
      lines.push(bytes);
    },
  });
  return { events, bootSeconds, end, console };
}

function missing(contender: Contender, what: string, { end, console }: Measured): BenchError {
  const how = `${end.reason} after ${end.seconds.toFixed(1)} s`;
  return new BenchError(
    `${titles[contender]} did not report ${what} (${how}); its console ended:\n${console}`,
  );
}

/** A number as a multiple of another, `0.88`. */
function ratio(value: number, of: number): string {
  return (value / of).toFixed(2);
}

/** The rows as a text table, with Corevisor's cost as a multiple of stock nVHE's. */
export function benchTable({ rows, host }: Bench): string {
  const count = (value: number) => value.toLocaleString("en-US");
  const cells = [
    ["instructions per exit", ...contenders.map((contender) => titles[contender]), "Corevisor / nVHE"],
    ...rows.map((row) => [
      row.exit,
      ...contenders.map((contender) => count(row[contender])),
      ratio(row.kcore, row.nvhe),
    ]),
    ["", "", "", "", ""],
    ["the host itself, relative to stock nVHE", "", "", "", ""],
    ...(
      [
        ["boot to /init", host.bootSeconds],
        ["300 × fork and exec", host.forkExecSeconds],
      ] as const
    ).map(([name, values]) => [
      name,
      ...contenders.map((contender) => ratio(values[contender], values.nvhe)),
      "",
    ]),
  ];
  const widths = (cells[0] ?? []).map((_, column) =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("   ")
      .trimEnd();
  return `${cells.map(line).join("\n")}\n`;
}

/** The rows as a picture, SVG: bars of instructions per exit, a group an exit. */
export async function benchPicture(rows: readonly BenchRow[]): Promise<string> {
  // Loaded here, because it takes a second that no other command should wait for.
  const [{ compile }, vega] = await Promise.all([import("vega-lite"), import("vega")]);
  const values = rows.flatMap((row) =>
    contenders.map((contender) => ({
      exit: row.exit,
      host: titles[contender],
      instructions: row[contender],
    })),
  );
  const order = contenders.map((contender) => titles[contender]);
  const { spec } = compile({
    background: "white",
    title: "What a VM exit costs, in instructions",
    data: { values },
    mark: { type: "bar", cornerRadiusEnd: 2 },
    height: { step: 14 },
    width: 460,
    encoding: {
      y: { field: "exit", type: "nominal", sort: null, title: null, axis: { labelLimit: 240 } },
      yOffset: { field: "host", sort: order },
      x: { field: "instructions", type: "quantitative", title: null },
      color: {
        field: "host",
        type: "nominal",
        sort: order,
        title: null,
        scale: { range: ["#9aa5b1", "#52606d", "#d9480f"] },
        legend: { orient: "bottom" },
      },
    },
  });
  const view = new vega.View(vega.parse(spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
