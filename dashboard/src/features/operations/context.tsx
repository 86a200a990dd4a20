/** Which operation is looked at: any page may open it after it has started one. */
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { OperationsDrawer } from "./drawer";

type Value = {
  /** Open the drawer; with an id, on that operation. */
  show: (id?: string) => void;
};

const Context = createContext<Value>({ show: () => undefined });

export const useOperationsDrawer = () => useContext(Context);

export function OperationsProvider({ children }: { children: ReactNode }) {
  const [open, setOpen] = useState(false);
  const [id, setId] = useState<string | null>(null);
  const show = useCallback((next?: string) => {
    setId(next ?? null);
    setOpen(true);
  }, []);
  const value = useMemo(() => ({ show }), [show]);
  return (
    <Context value={value}>
      {children}
      {open && <OperationsDrawer id={id} pick={setId} onClose={() => setOpen(false)} />}
    </Context>
  );
}
