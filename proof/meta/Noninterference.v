(** * From lemmas about single steps to whole executions

    The solver proves lemmas about one step of the machine, each from an arbitrary state (proof/primitives.ts, proof/theorem.ts and
    the contracts beside them). This file proves what they are good for: that in every execution, however long and however the CPUs
    interleave, a principal learns nothing of the others but what it is told on purpose, and nothing of its own is changed.

    It assumes nothing: no axiom, no classical logic, no extensionality. The solver's lemmas are the fields of the records [unwinding],
    [refinement] and [reservation]; beside each stands what discharges it. docs/theorem.md tells the same in prose, and what lies
    between the solver's formulas and these records. Check it with [corevisor verify --meta].

    A layer is the machine seen with some state. [demand] is what a step must find, as a model of proof/machine.ts obliges: for a
    principal's own access it is what the hardware translates. Everything that a step takes from outside, such as what it reads of
    host memory, is an answer of the data oracles and handed to [step]; so a step is a function. *)

From Coq Require Import List Bool.
Import ListNotations.

Section Meta.

Variables principal action answers outcome : Type.
Variable HOST : principal.
Variable actor : action -> principal. (* On whose behalf a step is taken: who runs, or who called the core. *)
Variable is_same : forall P Q : principal, {P = Q} + {P <> Q}.

Record layer := {
  state : Type;
  place : Type; (* A page's word, a register, a mapping: what a view is made of. *)
  value : Type;
  view : principal -> state -> place -> value;
  step : action -> answers -> state -> state;
  result : action -> answers -> state -> outcome; (* Whether it succeeded, and so what became of the request. *)
  demand : action -> state -> Prop;
  concerns : principal -> action -> answers -> state -> bool; (* Its own steps, and those that may tell or give it something. *)
  invariant : state -> Prop
}.

(** [P] cannot tell [s] from [t]. The solver proves such an equality at one arbitrary place. *)
Definition same (L : layer) (P : principal) (s t : state L) := forall k, view L P s k = view L P t k.

Lemma same_reflexive : forall L P s, same L P s s.
Proof. intros L P s k; reflexivity. Qed.

Lemma same_symmetric : forall L P s t, same L P s t -> same L P t s.
Proof. intros L P s t H k; symmetry; apply H. Qed.

Lemma same_transitive : forall L P s t u, same L P s t -> same L P t u -> same L P s u.
Proof. intros L P s t u H K k; rewrite H; apply K. Qed.

(** ** Executions *)

Definition execution := list (action * answers).

Fixpoint after (L : layer) (s : state L) (run : execution) : state L :=
  match run with
  | [] => s
  | (x, o) :: rest => after L (step L x o s) rest
  end.

(** Each step finds what it demands. [every_demand_is_met] shows it of whatever the CPUs do. *)
Fixpoint legal (L : layer) (s : state L) (run : execution) : Prop :=
  match run with
  | [] => True
  | (x, o) :: rest => demand L x s /\ legal L (step L x o s) rest
  end.

(** ** The invariants hold in every reachable state

    [kept]: each lemma "... keeps the invariants" of proof/primitives.ts, a primitive at a time. That the first state has them is
    the contract of [boot]. *)

Definition kept (L : layer) := forall x o s, invariant L s -> demand L x s -> invariant L (step L x o s).

Theorem invariants_hold : forall L, kept L ->
  forall run s, invariant L s -> legal L s run -> invariant L (after L s run).
Proof.
  intros L keeps run; induction run as [|[x o] rest IH]; intros s inv ok; simpl in *; [assumption|].
  destruct ok as [needs ok]; apply IH; [apply keeps|]; assumption.
Qed.

(** What a lock guards need not be in order while somebody holds the lock; the invariant is that it is in order while the lock is
    free. [released]: what [release] demands in proof/lock.ts. [untouched]: what guards access to memories in proof/linear.ts and
    proof/machine.ts, which let nobody change what a lock guards without it. Taking a free lock therefore grants what it guards. *)
Theorem free_locks_guard_what_is_in_order : forall (L : layer) (lock : Type) (free : lock -> state L -> bool)
  (in_order : lock -> state L -> Prop)
  (released : forall k x o s, invariant L s -> demand L x s -> free k s = false -> free k (step L x o s) = true ->
    in_order k (step L x o s))
  (untouched : forall k x o s, invariant L s -> demand L x s -> free k s = true -> free k (step L x o s) = true ->
    in_order k s -> in_order k (step L x o s)),
  kept L -> forall k run s, invariant L s -> legal L s run ->
  (free k s = true -> in_order k s) -> free k (after L s run) = true -> in_order k (after L s run).
Proof.
  intros L lock free in_order released untouched keeps k run.
  induction run as [|[x o] rest IH]; intros s inv ok before; simpl in *; [assumption|].
  destruct ok as [needs ok]; apply IH; [apply keeps; assumption|assumption|].
  intro now; destruct (free k s) eqn:was; [apply untouched|apply released]; auto.
Qed.

(** ** Sequential proofs compose to all interleavings

    A CPU is somewhere in its code, [local], and [pc c] says where; what may come next, [moves], depends on that and on the state.
    [asserts c l s] is what the symbolic execution of the code of CPU [c] knows when it is at [l]. *)

Record threads (L : layer) := {
  cpu : Type;
  local : Type;
  is_same_cpu : forall c d : cpu, {c = d} + {c <> d};
  moves : cpu -> local -> state L -> action -> answers -> local -> Prop
}.
Arguments cpu {L}.
Arguments local {L}.
Arguments is_same_cpu {L}.
Arguments moves {L}.

(** Any CPU takes the next step, as often as it likes. *)
Inductive executes (L : layer) (T : threads L) :
    (cpu T -> local T) -> state L -> execution -> (cpu T -> local T) -> state L -> Prop :=
| stops : forall pc s, executes L T pc s [] pc s
| goes_on : forall c x o pc pc1 pc2 s rest s2,
    moves T c (pc c) s x o (pc1 c) ->
    (forall d, d <> c -> pc1 d = pc d) ->
    executes L T pc1 (step L x o s) rest pc2 s2 ->
    executes L T pc s ((x, o) :: rest) pc2 s2.

(** [obliged] and [followed] are the proof of a function against its contract, one CPU at a time: every obligation holds, and what is
    asserted next follows. [stable]: an assertion speaks of nothing but what its CPU holds ([stays] in proof/lock.ts: taking a lock
    gives arbitrary values to all else). [reserved]: a step of another CPU leaves that alone, because the models of proof/machine.ts and
    proof/linear.ts demand of whoever writes an entry that it holds it, and no two CPUs hold the same lock (proof/ticketlock.ts). *)
Record reservation (L : layer) (T : threads L) (asserts : cpu T -> local T -> state L -> Prop)
    (untouched : cpu T -> state L -> state L -> Prop) : Prop := {
  obliged : forall c l s x o l', invariant L s -> asserts c l s -> moves T c l s x o l' -> demand L x s;
  followed : forall c l s x o l', invariant L s -> asserts c l s -> moves T c l s x o l' -> asserts c l' (step L x o s);
  stable : forall c l s s', invariant L s' -> asserts c l s -> untouched c s s' -> asserts c l s';
  reserved : forall c d l s x o l', c <> d -> invariant L s -> asserts c l s -> moves T c l s x o l' -> demand L x s ->
    untouched d s (step L x o s)
}.

Theorem every_demand_is_met : forall L T asserts untouched, kept L -> reservation L T asserts untouched ->
  forall pc s run pc2 s2, executes L T pc s run pc2 s2 -> invariant L s -> (forall c, asserts c (pc c) s) ->
  legal L s run /\ s2 = after L s run /\ invariant L s2 /\ (forall c, asserts c (pc2 c) s2).
Proof.
  intros L T asserts untouched keeps R pc s run pc2 s2 E.
  induction E as [|c x o pc pc1 pc2 s rest s2 move others E IH]; intros inv known; simpl; [auto|].
  assert (needs : demand L x s) by (eapply obliged; eauto).
  assert (inv' : invariant L (step L x o s)) by auto.
  destruct IH as (ok & -> & inv2 & known2); [assumption| |auto].
  intro d; destruct (is_same_cpu T d c) as [->|apart].
  - eapply followed; eauto.
  - rewrite (others d apart); eapply stable; eauto; eapply reserved; eauto.
Qed.

(** ** Noninterference

    [observers] are principals that put together what they know. Of an execution they witness the steps that concern one of them: who
    did what with which answers, and, where an outsider did it, with what result: that the host gave a page or did not is what it
    tells the VM on purpose. What a step of their own results in, they must find in their views. *)

Definition witnessed := (action * answers * option outcome)%type.

Definition is_among (observers : list principal) (P : principal) : bool :=
  if in_dec is_same P observers then true else false.

Fixpoint trace (L : layer) (observers : list principal) (s : state L) (run : execution) : list witnessed :=
  match run with
  | [] => []
  | (x, o) :: rest =>
      let seen := if is_among observers (actor x) then None else Some (result L x o s) in
      let more := trace L observers (step L x o s) rest in
      if existsb (fun P => concerns L P x o s) observers then (x, o, seen) :: more else more
  end.

(** The lemmas of proof/theorem.ts about one step. [masked P x]: all that [x] tells [P] goes through the data oracles. *)
Record unwinding (L : layer) (masked : principal -> action -> Prop) : Prop := {
  (** "... keeps the invariants", proof/primitives.ts. *)
  keeps : kept L;
  (** By definition of [concerns]. *)
  own : forall x o s, concerns L (actor x) x o s = true;
  (** Integrity: the step of another leaves my view as it was, unless it is one that concerns me. *)
  integrity : forall P x o s, invariant L s -> demand L x s -> concerns L P x o s = false -> same L P s (step L x o s);
  (** Confidentiality, first form: what I see afterwards depends on what I and the acting principal see, and on the oracles. *)
  confidentiality : forall P x o s t, invariant L s -> invariant L t -> demand L x s -> demand L x t ->
    same L P s t -> same L (actor x) s t -> same L P (step L x o s) (step L x o t);
  (** Second form: not even on what the acting principal sees. A page that was given without being scrubbed fails here. *)
  masking : forall P x o s t, masked P x -> invariant L s -> invariant L t -> demand L x s -> demand L x t ->
    same L P s t -> result L x o s = result L x o t -> same L P (step L x o s) (step L x o t);
  (** The second form is proved for every principal but the host. *)
  vms_are_masked : forall P x, P <> HOST -> masked P x
}.

Definition agree (L : layer) (observers : list principal) (s t : state L) := forall P, In P observers -> same L P s t.

(** Outsiders' steps that concern an observer are masked for all of them. It holds by itself where the host is not among them. *)
Definition no_unmasked_flow (observers : list principal) (masked : principal -> action -> Prop) (tr : list witnessed) :=
  forall x o r, In (x, o, r) tr -> In (actor x) observers \/ forall P, In P observers -> masked P x.

Lemma unconcerned : forall L masked, unwinding L masked -> forall observers x o s, invariant L s -> demand L x s ->
  existsb (fun P => concerns L P x o s) observers = false -> agree L observers s (step L x o s).
Proof.
  intros L masked U observers x o s inv needs none P member; eapply integrity; eauto.
  destruct (concerns L P x o s) eqn:C; [|reflexivity].
  rewrite <- none; symmetry; apply existsb_exists; exists P; auto.
Qed.

(** Whatever else happens, in whatever order, and whatever others know: two executions that start alike for the observers, and of
    which they witness the same, end alike for them. *)
Theorem noninterference : forall L masked, unwinding L masked -> forall observers run run' s t,
  invariant L s -> invariant L t -> legal L s run -> legal L t run' -> agree L observers s t ->
  trace L observers s run = trace L observers t run' -> no_unmasked_flow observers masked (trace L observers s run) ->
  agree L observers (after L s run) (after L t run').
Proof.
  intros L masked U observers run; induction run as [|[x o] rest IH].
  - induction run' as [|[y q] rest' IH']; intros s t inv_s inv_t ok ok' alike traces flows; simpl in *; [assumption|].
    destruct ok' as [needs ok']; destruct (existsb _ _) eqn:C; [discriminate|].
    apply IH'; auto; [eapply keeps; eauto|].
    intros P member; eapply same_transitive; [apply alike; assumption|eapply unconcerned; eauto].
  - intros run' s; destruct (existsb (fun P => concerns L P x o s) observers) eqn:C.
    + (* Witnessed: so the other execution gets to the same step. *)
      induction run' as [|[y q] rest' IH']; intros t inv_s inv_t ok ok' alike traces flows; simpl in *; rewrite C in *;
        [discriminate|].
      destruct ok as [needs ok], ok' as [needs' ok'].
      destruct (existsb (fun P => concerns L P y q t) observers) eqn:C'.
      * injection traces as -> -> seen traces.
        apply IH; auto; [eapply keeps; eauto|eapply keeps; eauto| |intros z p r I; apply (flows z p r); right; exact I].
        intros P member; destruct (flows _ _ _ (or_introl eq_refl)) as [insider|masks].
        -- eapply confidentiality; eauto.
        -- unfold is_among in seen; destruct (in_dec is_same (actor y) observers); [eapply confidentiality; eauto|].
           injection seen as seen; eapply masking; eauto.
      * apply IH'; auto; [eapply keeps; eauto|].
        intros P member; eapply same_transitive; [apply alike; assumption|eapply unconcerned; eauto].
    + (* Nobody witnesses it: their views stay. *)
      intros t inv_s inv_t ok ok' alike traces flows; simpl in *; rewrite C in *; destruct ok as [needs ok].
      apply IH; auto; [eapply keeps; eauto|].
      intros P member; eapply same_transitive; [|apply alike; assumption].
      apply same_symmetric; eapply unconcerned; eauto.
Qed.

(** A VM by itself, or VMs that collude: no condition is left on what the others do. *)
Corollary vms_learn_what_they_are_told : forall L masked, unwinding L masked -> forall observers run run' s t,
  ~ In HOST observers -> invariant L s -> invariant L t -> legal L s run -> legal L t run' -> agree L observers s t ->
  trace L observers s run = trace L observers t run' -> agree L observers (after L s run) (after L t run').
Proof.
  intros L masked U observers run run' s t outside; intros; eapply noninterference; eauto.
  intros x o r _; right; intros P member; eapply vms_are_masked; eauto; intros ->; contradiction.
Qed.

(** Integrity of whole executions: as long as nothing concerns [P], its view stays. *)
Corollary what_is_mine_stays : forall L masked, unwinding L masked -> forall P run s,
  invariant L s -> legal L s run -> trace L [P] s run = [] -> same L P s (after L s run).
Proof.
  intros L masked U P run; induction run as [|[x o] rest IH]; intros s inv ok quiet; simpl in *; [apply same_reflexive|].
  destruct ok as [needs ok]; destruct (concerns L P x o s) eqn:C; simpl in *; [discriminate|].
  eapply same_transitive; [eapply integrity; eauto|apply IH; auto; eapply keeps; eauto].
Qed.

(** ** Layers

    The layer below does the same with more: entries of tables where the one above has a map, translations that a TLB still holds
    where the one above has none. [simulates], [demanded] and the two after it: invariants tie both ("what is mapped is what the
    entries say" and its like, proof/invariants.ts) and each primitive changes both. [preserves_views] is the obligation that makes
    the refinement preserve security: "equal views above imply equal views below", proof/theorem.ts. *)

Record refinement (A B : layer) (R : state A -> state B -> Prop) : Prop := {
  simulates : forall x o a b, R a b -> demand B x b -> R (step A x o a) (step B x o b);
  demanded : forall x a b, R a b -> demand B x b -> demand A x a;
  holds_above : forall a b, R a b -> invariant A a;
  concerned_above : forall P x o a b, R a b -> concerns A P x o a = concerns B P x o b;
  results_above : forall x o a b, R a b -> result A x o a = result B x o b;
  preserves_views : forall P a b a' b', R a b -> R a' b' -> same A P a a' -> same B P b b'
}.

Definition through {A B C : layer} (R : state A -> state B -> Prop) (S : state B -> state C -> Prop) :=
  fun a c => exists b, R a b /\ S b c.

Theorem layers_compose : forall A B C R S, refinement A B R -> refinement B C S -> refinement A C (through R S).
Proof.
  intros A B C R S AB BC; split.
  - intros x o a c (b & r & q) needs; exists (step B x o b); split; eapply simulates; eauto; eapply demanded; eauto.
  - intros x a c (b & r & q) needs; eapply demanded; eauto; eapply demanded; eauto.
  - intros a c (b & r & q); eapply holds_above; eauto.
  - intros P x o a c (b & r & q); etransitivity; eapply concerned_above; eauto.
  - intros x o a c (b & r & q); etransitivity; eapply results_above; eauto.
  - intros P a c a' c' (b & r & q) (b' & r' & q') alike.
    eapply preserves_views; [exact BC|exact q|exact q'|]; eapply preserves_views; eauto.
Qed.

Lemma witnessed_above : forall A B R, refinement A B R -> forall x o a b, R a b -> forall observers,
  existsb (fun P => concerns A P x o a) observers = existsb (fun P => concerns B P x o b) observers.
Proof.
  intros A B R ref x o a b r observers; induction observers as [|P others IH]; simpl; [reflexivity|].
  rewrite (concerned_above _ _ _ ref P x o a b r), IH; reflexivity.
Qed.

Lemma execution_above : forall A B R, refinement A B R -> forall run a b, R a b -> legal B b run ->
  legal A a run /\ R (after A a run) (after B b run) /\ forall observers, trace A observers a run = trace B observers b run.
Proof.
  intros A B R ref run; induction run as [|[x o] rest IH]; intros a b r ok; simpl in *; [auto|].
  destruct ok as [needs ok]; destruct (IH (step A x o a) (step B x o b)) as (ok' & r' & traces); auto.
  { eapply simulates; eauto. }
  split; [split; [eapply demanded; eauto|assumption]|split; [assumption|]].
  intro observers; rewrite traces, (results_above _ _ _ ref x o a b r), (witnessed_above _ _ _ ref x o a b r); reflexivity.
Qed.

(** What is proved of the layer above holds of the layer below. *)
Theorem noninterference_below : forall A B R masked, unwinding A masked -> refinement A B R ->
  forall observers run run' a a' b b', R a b -> R a' b' -> legal B b run -> legal B b' run' -> agree A observers a a' ->
  trace B observers b run = trace B observers b' run' -> no_unmasked_flow observers masked (trace B observers b run) ->
  agree B observers (after B b run) (after B b' run').
Proof.
  intros A B R masked U ref observers run run' a a' b b' r r' ok ok' alike traces flows P member.
  destruct (execution_above _ _ _ ref run a b r ok) as (oka & ra & ta).
  destruct (execution_above _ _ _ ref run' a' b' r' ok') as (oka' & ra' & ta').
  eapply preserves_views; [exact ref|exact ra|exact ra'|].
  rewrite <- ta in flows; rewrite <- ta, <- ta' in traces.
  eapply noninterference; eauto; eapply holds_above; eauto.
Qed.

(** ** All of it together

    CPUs run the core's code and whatever principals please, in any interleaving, on a machine [B] whose abstraction is [A]. *)
Theorem noninterference_of_the_machine : forall A B R masked T asserts untouched,
  unwinding A masked -> refinement A B R -> kept B -> reservation B T asserts untouched ->
  forall observers pc pc2 pc' pc2' run run' a a' b b2 b' b2',
  executes B T pc b run pc2 b2 -> executes B T pc' b' run' pc2' b2' ->
  R a b -> R a' b' -> invariant B b -> invariant B b' ->
  (forall c, asserts c (pc c) b) -> (forall c, asserts c (pc' c) b') ->
  agree A observers a a' -> trace B observers b run = trace B observers b' run' ->
  no_unmasked_flow observers masked (trace B observers b run) ->
  agree B observers b2 b2'.
Proof.
  intros A B R masked T asserts untouched U ref keepsB res observers pc pc2 pc' pc2' run run' a a' b b2 b' b2' E E'
    r r' inv inv' known known' alike traces flows.
  destruct (every_demand_is_met _ _ _ _ keepsB res _ _ _ _ _ E inv known) as (ok & -> & _).
  destruct (every_demand_is_met _ _ _ _ keepsB res _ _ _ _ _ E' inv' known') as (ok' & -> & _).
  eapply noninterference_below; eauto.
Qed.

End Meta.

(** ** The hypotheses can be met, and the second form is needed

    A machine of one host and one VM, a word each. Everybody writes its own word, from an oracle; and the host gives the VM a word,
    which is scrubbed, or is not. With the scrub every lemma holds. Without it every lemma but the second form does, and the VM learns
    the host's word although no step told it: a proof that leaves the second form out would accept that machine. *)

Inductive who := Host | Vm.
Inductive what := Writes (P : who) | Gives.

Definition same_who (P Q : who) : {P = Q} + {P <> Q}.
Proof. decide equality. Defined.

Definition doer (x : what) := match x with Writes P => P | Gives => Host end.

Definition tiny (scrubs : bool) : layer who what nat unit := {|
  state := nat * nat; place := unit; value := nat;
  view := fun P s _ => match P with Host => fst s | Vm => snd s end;
  step := fun x o s => match x with
    | Writes Host => (o, snd s)
    | Writes Vm => (fst s, o)
    | Gives => (fst s, if scrubs then 0 else fst s)
    end;
  result := fun _ _ _ => tt;
  demand := fun _ _ => True;
  concerns := fun P x _ _ => match x with Writes Q => if same_who P Q then true else false | Gives => true end;
  invariant := fun _ => True
|}.

Ltac by_cases := repeat match goal with P : who |- _ => destruct P | x : what |- _ => destruct x end;
  unfold same in *; simpl in *; intros; try congruence; auto.

Example scrubbing_meets_the_hypotheses : unwinding _ _ _ _ Host doer (tiny true) (fun P _ => P <> Host).
Proof. split; try (intros P x o s t; intros); try (intros x o s; intros); by_cases. Qed.

Example without_scrub_the_first_form_holds : forall P x o s t,
  same _ _ _ _ (tiny false) P s t -> same _ _ _ _ (tiny false) (doer x) s t ->
  same _ _ _ _ (tiny false) P (step _ _ _ _ (tiny false) x o s) (step _ _ _ _ (tiny false) x o t).
Proof. intros; by_cases. Qed.

Example and_yet_the_vm_learns_the_secret :
  let s := (1, 0) in let t := (2, 0) in let run := [(Gives, 0)] in
  let L := tiny false in let tr := trace _ _ _ _ doer same_who L [Vm] in
  same _ _ _ _ L Vm s t /\ tr s run = tr t run /\
  ~ same _ _ _ _ L Vm (after _ _ _ _ L s run) (after _ _ _ _ L t run).
Proof. repeat split; intro leak; specialize (leak tt); discriminate. Qed.

(** [corevisor verify --meta] looks for "Closed under the global context" here, once for each. *)
Print Assumptions noninterference_of_the_machine.
Print Assumptions free_locks_guard_what_is_in_order.
Print Assumptions vms_learn_what_they_are_told.
Print Assumptions what_is_mine_stays.
Print Assumptions layers_compose.
Print Assumptions invariants_hold.
