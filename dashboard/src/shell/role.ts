/** What the signed-in user may do; the server decides, this only hides what would be refused. */
import { useMe } from "@/api/queries";

const RANK = { viewer: 1, operator: 2, admin: 3 } as const;

export function useMay(role: keyof typeof RANK): boolean {
  const me = useMe().data;
  return me ? RANK[me.role] >= RANK[role] : false;
}
