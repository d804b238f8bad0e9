import ora from "ora";
import type { OnProgress } from "../boot/job.ts";

/** Tells the user on standard error what is going on: a spinner on a terminal, a line a stage elsewhere. */
export interface ProgressDisplay {
  readonly onProgress: OnProgress;
  /** Ends the current stage with a line that stays. */
  readonly done: (text: string) => void;
  /** Clears the display, for others to write to the terminal. */
  readonly stop: () => void;
}

export function openProgress(): ProgressDisplay {
  return process.stderr.isTTY ? spinner() : lines();
}

function spinner(): ProgressDisplay {
  // Standard input is left alone, so that Ctrl-C stays a signal.
  const display = ora({ stream: process.stderr, discardStdin: false });
  return {
    onProgress: ({ stage, fraction }) => {
      display.text = fraction === undefined ? stage : `${stage} ${Math.floor(fraction * 100)}%`;
      if (!display.isSpinning) display.start();
    },
    done: (text) => {
      display.succeed(text);
    },
    stop: () => {
      display.stop();
    },
  };
}

function lines(): ProgressDisplay {
  let last = "";
  return {
    onProgress: ({ stage }) => {
      if (stage === last) return;
      last = stage;
      process.stderr.write(`corevisor: ${stage}\n`);
    },
    done: (text) => {
      process.stderr.write(`corevisor: ${text}\n`);
    },
    stop: () => {},
  };
}
