/** Delete, and where it is refused: where the thing is still used, and the way to force it. */
import { useState } from "react";
import { placesOf, problemOf } from "@/api/problem";
import { useT } from "@/i18n/react";
import { FormDialog } from "./dialog";
import { Check } from "./field";

export function RemoveDialog({
  title,
  hint,
  forceLabel,
  forceHint,
  remove,
  onClose,
}: {
  title: string;
  hint: string;
  forceLabel: string;
  forceHint: string;
  remove: (force: boolean) => Promise<void>;
  onClose: () => void;
}) {
  const t = useT();
  const [refusal, setRefusal] = useState<unknown>(null);
  const [force, setForce] = useState(false);
  const places = refusal === null ? [] : placesOf(problemOf(refusal));
  return (
    <FormDialog
      title={title}
      action={t("action.delete")}
      tone="danger"
      onClose={onClose}
      submit={async () => {
        try {
          await remove(force);
        } catch (error) {
          setRefusal(error);
          throw error;
        }
      }}
    >
      <p>{hint}</p>
      {places.length > 0 && (
        <>
          <h3 className="font-medium">{t("remove.usedHere")}</h3>
          <ul className="rounded-md border border-line">
            {places.map((place) => (
              <li key={place.id} className="border-b border-line/60 px-3 py-1.5 last:border-0">
                <b>{place.name || place.id}</b> <span className="text-muted">{place.facts}</span>
              </li>
            ))}
          </ul>
          <Check
            label={forceLabel}
            hint={forceHint}
            checked={force}
            onChange={(event) => setForce(event.target.checked)}
          />
        </>
      )}
    </FormDialog>
  );
}
