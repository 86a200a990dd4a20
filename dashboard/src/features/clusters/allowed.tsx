/** What is allowed on hosts that a cluster takes later: looked at, then said anew for them alone. */
import { useState } from "react";
import { checkNodes } from "@/api/clusters";
import type { Cluster, ClusterCheck, Consent, Member } from "@/api/types";
import { hindering, tolerated } from "@/format/hosts";
import { useT } from "@/i18n/react";
import { Button } from "@/ui/button";
import { Check } from "@/ui/field";
import { ProblemNotice } from "@/ui/problem";
import { CheckView } from "./check";

/** It is of the hosts that are chosen: where others are, it begins anew from `NOTHING`. */
export type Allowed = { consent: Consent; check: ClusterCheck | null };

export const NOTHING: Allowed = { consent: { accept: [], clean_leftovers: false }, check: null };

/** Something that was found keeps these hosts out. */
export function hinders({ consent, check }: Allowed): boolean {
  return check !== null && hindering(check, consent.accept).length > 0;
}

export function AllowedFields({
  cluster,
  asked,
  role,
  allowed,
  onChange,
}: {
  cluster: Cluster;
  asked: { id: string; name: string }[];
  role: Member["role"];
  allowed: Allowed;
  onChange: (next: Allowed) => void;
}) {
  const t = useT();
  const [looking, setLooking] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const { consent, check } = allowed;
  const look = async () => {
    setLooking(true);
    setError(null);
    try {
      const ids = asked.map((each) => each.id);
      const found = await checkNodes(cluster.id, ids, role, consent);
      onChange({ consent: { ...consent, accept: tolerated(found, consent.accept) }, check: found });
    } catch (failure) {
      setError(failure);
    } finally {
      setLooking(false);
    }
  };
  return (
    <>
      <Check
        label={t("cluster.clean")}
        hint={t("cluster.cleanHint")}
        checked={consent.clean_leftovers}
        disabled={looking}
        onChange={(event) =>
          onChange({ consent: { ...consent, clean_leftovers: event.target.checked }, check: null })
        }
      />
      <div className="flex flex-wrap items-center gap-2">
        <Button busy={looking} disabled={asked.length === 0 || looking} onClick={() => void look()}>
          {t("cluster.check")}
        </Button>
        <p className="text-2xs text-muted">{t("cluster.checkOnlyHint")}</p>
      </div>
      {error !== null && <ProblemNotice error={error} />}
      {check && (
        <CheckView
          check={check}
          asked={asked}
          accept={consent.accept}
          onAccept={(accept) => onChange({ consent: { ...consent, accept }, check })}
        />
      )}
    </>
  );
}
