import type { Core, VmMode } from "../boot/core.ts";
import type { StoryEvent } from "../boot/story.ts";
import type { HostEnd } from "../boot/system.ts";
import { colours } from "./colours.ts";
import { provedState } from "./proved.ts";

/** The reports of one kind. */
export type EventOf<Name extends StoryEvent["event"]> = Extract<StoryEvent, { event: Name }>;

/** What one host reported, and how it ended. */
export interface Told {
  readonly core: "on" | "off";
  readonly vms: VmMode;
  readonly end: Pick<HostEnd, "reason" | "detail" | "seconds"> & {
    readonly core: Pick<Core, "wasmSha256"> | undefined;
  };
  readonly host: EventOf<"host"> | undefined;
  readonly guests: readonly EventOf<"guest">[];
  readonly attacks: readonly EventOf<"attack">[];
  readonly checks: readonly EventOf<"check">[];
  readonly failedSteps: readonly string[];
  /** The end of its console, to show when something failed. */
  readonly console: string;
}

/** What a host reported, by kind. */
export function reportsIn(
  events: readonly StoryEvent[],
): Pick<Told, "host" | "guests" | "attacks" | "checks" | "failedSteps"> {
  const all = <Name extends StoryEvent["event"]>(name: Name) =>
    events.filter((event): event is EventOf<Name> => event.event === name);
  return {
    host: all("host")[0],
    guests: all("guest"),
    attacks: all("attack"),
    checks: all("check"),
    failedSteps: all("step-ended")
      .filter(({ status }) => status !== 0)
      .map(({ name }) => name),
  };
}

/** A host by its hypervisor, for people. */
export function title(core: "on" | "off"): string {
  return core === "on" ? "host on Corevisor" : "host with its own KVM";
}

/**
 * Whether the host did all it was asked and ended by itself, and, on the core, every attack was refused and every check passed.
 * Ordinary VMs are the host's own: it may do with them as it likes.
 */
export function isGood(told: Told): boolean {
  const { core, end, host, guests, attacks, failedSteps } = told;
  return (
    end.reason === "poweroff" &&
    failedSteps.length === 0 &&
    host !== undefined &&
    guests.length > 0 &&
    guests.every(({ booted, poweredOff, vcpus, online }) => booted && poweredOff && online === vcpus) &&
    attacks.some(({ target }) => target === (core === "on" ? "core" : "vm")) &&
    breaches(told).length === 0
  );
}

/** What should not have happened on the core, a line each; nothing is promised for a host on its own KVM. */
function breaches({ core, vms, attacks, checks }: Told): string[] {
  if (core === "off") return [];
  const through = attacks.filter(
    ({ target, result }) => result === "succeeded" && (target === "core" || vms === "private"),
  );
  const failed = vms === "private" ? checks.filter(({ ok }) => !ok) : [];
  return [
    ...through.map(({ name, detail }) => `succeeded: ${name} (${detail ?? "no detail"})`),
    ...failed.map(({ name, detail }) => `does not hold: ${name} (${detail ?? "no detail"})`),
  ];
}

/**
 * Attacks that the host with its own KVM reported and the host on the core did not: a report that was lost on the console must
 * not pass for a refusal.
 */
export function lostReports(told: readonly Told[]): string[] {
  const stock = told.find(({ core }) => core === "off");
  const corevisor = told.find(({ core }) => core === "on");
  if (!stock || !corevisor) return [];
  const seen = new Set([...corevisor.attacks, ...corevisor.checks].map(({ name }) => name));
  return [...stock.attacks, ...stock.checks].map(({ name }) => name).filter((name) => !seen.has(name));
}

/** Whether every host was good, and nothing was lost between them. */
export function allGood(told: readonly Told[]): boolean {
  return told.every(isGood) && lostReports(told).length === 0;
}

/** Why a host was not good, with the end of its console. */
export function complaint(told: Told): string {
  const { core, end, failedSteps, console } = told;
  const steps = failedSteps.length > 0 ? `, failed: ${failedSteps.join(", ")}` : "";
  const how = [`${end.reason}${end.detail ? ` (${end.detail})` : ""}${steps}`, ...breaches(told)].join(
    "\n  ",
  );
  const said = console === "" ? "" : `\nIts console ended:\n${console}`;
  return `corevisor: ${title(core)}: ${how}${said}`;
}

/** The JSON that scripts rely on. The host and guests are those on the core, where both were booted. */
export function report(told: readonly Told[], seconds: number): Record<string, unknown> {
  const shown = told.find(({ core }) => core === "on") ?? told[0];
  const core = shown?.end.core;
  return {
    ok: allGood(told),
    seconds: Number(seconds.toFixed(3)),
    host: shown?.host
      ? { kernel: shown.host.kernel, kvmMode: shown.host.kvmMode, cpus: shown.host.cpus }
      : null,
    kcore: core ? { wasmSha256: core.wasmSha256, ...describeProof(core.wasmSha256) } : null,
    guests: guestsOf(shown),
    attacks: sideBySide(told, "attacks").map(({ name, stock, corevisor }) => ({
      name,
      target: (corevisor ?? stock)?.target,
      stock: stock?.result ?? null,
      corevisor: corevisor?.result ?? null,
      detail: { stock: stock?.detail ?? null, corevisor: corevisor?.detail ?? null },
    })),
    checks: sideBySide(told, "checks").map(({ name, stock, corevisor }) => ({
      name,
      stock: stock?.ok ?? null,
      corevisor: corevisor?.ok ?? null,
    })),
    hosts: told.map((one) => ({
      core: one.core,
      vms: one.core === "on" ? one.vms : null,
      reason: one.end.reason,
      seconds: Number(one.end.seconds.toFixed(3)),
      kvmMode: one.host?.kvmMode ?? null,
      guests: guestsOf(one),
    })),
  };
}

function guestsOf(told: Told | undefined): Record<string, unknown>[] {
  return (told?.guests ?? []).map(({ kind, vcpus, booted, poweredOff }) => ({
    kind,
    vcpus,
    booted,
    poweredOff,
  }));
}

/** The JSON about the proof: whether all of it is proved, how much is, and that in words. */
function describeProof(wasmSha256: string): Record<string, unknown> {
  const { proved, functions, words } = provedState(wasmSha256);
  return { proved, functions: functions ?? null, verdict: words };
}

/** Each attack or check once, with its report from either host; undefined where that host did not see it. */
function sideBySide<Kind extends "attacks" | "checks">(
  told: readonly Told[],
  kind: Kind,
): { name: string; stock: Told[Kind][number] | undefined; corevisor: Told[Kind][number] | undefined }[] {
  const reports = (core: "on" | "off") =>
    new Map(
      told
        .filter((one) => one.core === core)
        .flatMap((one): readonly Told[Kind][number][] => one[kind])
        .map((event) => [event.name, event]),
    );
  const stock = reports("off");
  const corevisor = reports("on");
  return [...new Set([...stock.keys(), ...corevisor.keys()])].map((name) => ({
    name,
    stock: stock.get(name),
    corevisor: corevisor.get(name),
  }));
}

/** A cell of the summary: plain text, or text that is good or bad news. */
type Cell = string | { readonly text: string; readonly paint: (text: string) => string };

const verdict = (text: string, isGoodNews: boolean): Cell => ({
  text,
  paint: isGoodNews ? colours.green : colours.red,
});
const textOf = (cell: Cell): string => (typeof cell === "string" ? cell : cell.text);

/** The tables at the end: a column a host. */
export function summary(told: readonly Told[], seconds: number): string {
  const titles = (name: string): Cell[] => [name, ...told.map(({ core }) => title(core))];
  const row = (name: string, value: (one: Told) => Cell): Cell[] => [name, ...told.map(value)];
  const guestKinds = [...new Set(told.flatMap(({ guests }) => guests.map(({ kind }) => kind)))];
  const hosts = [
    titles(""),
    row("host kernel", ({ host }) => host?.kernel ?? "did not come up"),
    row("KVM mode", ({ host }) => host?.kvmMode ?? "-"),
    row("CPUs", ({ host }) => `${host?.cpus ?? "-"}`),
    row("core (wasm)", ({ end }) => end.core?.wasmSha256.slice(0, 16) ?? "none"),
    row("VMs", ({ core, vms }) => (core === "on" ? vms : "stock")),
    ...guestKinds.map((kind) =>
      row(`${kind} guest`, ({ guests }) => describeGuest(guests.find((guest) => guest.kind === kind))),
    ),
    row("host ran for", ({ end }) => `${end.seconds.toFixed(1)} s`),
  ];
  const attacks = [
    titles("attacks by root in the host"),
    ...sideBySide(told, "attacks").map(({ name, stock, corevisor }) =>
      row(name, ({ core }) => {
        const result = (core === "on" ? corevisor : stock)?.result;
        return result === undefined ? "no core" : verdict(result, result === "refused");
      }),
    ),
    row("succeeded", ({ attacks }) => {
      const through = attacks.filter(({ result }) => result === "succeeded").length;
      return `${through} of ${attacks.length}`;
    }),
  ];
  const checks = [
    titles("and then"),
    ...sideBySide(told, "checks").map(({ name, stock, corevisor }) =>
      row(name, ({ core }) => {
        const ok = (core === "on" ? corevisor : stock)?.ok;
        return ok === undefined ? "-" : verdict(ok ? "yes" : "no", ok);
      }),
    ),
  ];
  const wasm = told.find(({ end }) => end.core)?.end.core?.wasmSha256;
  const parts = [
    table(hosts),
    table(attacks),
    table(checks),
    ...(wasm === undefined ? [] : [`core ${wasm.slice(0, 16)}: ${provedState(wasm).words}`]),
    colours.dim(`${seconds.toFixed(1)} s in all`),
  ];
  return `\n${parts.join("\n\n")}\n`;
}

/** Rows as text, the first one as the title. */
function table(rows: readonly (readonly Cell[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((cells) => textOf(cells[column] ?? "").length)),
  );
  const lines = rows.map((cells, index) => {
    const line = cells
      .map((cell, column) => {
        const last = column === cells.length - 1;
        const text = last ? textOf(cell) : textOf(cell).padEnd(widths[column] ?? 0);
        return typeof cell === "string" ? text : cell.paint(text);
      })
      .join("   ");
    return index === 0 ? colours.bold(line) : line;
  });
  return lines.join("\n");
}

function describeGuest(guest: EventOf<"guest"> | undefined): string {
  if (!guest?.booted) return "did not boot";
  const cpus = `${guest.online} vCPU${guest.online === 1 ? "" : "s"}`;
  return `booted with ${cpus}, ${guest.poweredOff ? "powered off" : "did not power off"}`;
}
