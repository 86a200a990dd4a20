/** Dense sortable tables on TanStack Table; columns are plain data so that pages stay readable. */
import {
  createSortedRowModel,
  rowSortingFeature,
  sortFn_alphanumeric,
  sortFn_basic,
  sortFn_datetime,
  sortFn_text,
  tableFeatures,
  type ColumnDef,
  type RowData,
  useTable,
} from "@tanstack/react-table";
import { type ReactNode, useMemo } from "react";
import { cx } from "./cx";

const features = tableFeatures({
  rowSortingFeature,
  sortedRowModel: createSortedRowModel(),
  sortFns: {
    alphanumeric: sortFn_alphanumeric,
    basic: sortFn_basic,
    datetime: sortFn_datetime,
    text: sortFn_text,
  },
});

export type Column<T extends RowData> = {
  id: string;
  name: string;
  cell: (row: T) => ReactNode;
  /** What the column is sorted by; absent: not sortable. */
  sort?: (row: T) => string | number | null | undefined;
  className?: string;
};

export function Table<T extends RowData>({
  rows,
  columns,
  rowKey,
  label,
  empty,
}: {
  rows: T[];
  columns: Column<T>[];
  rowKey: (row: T) => string;
  label: string;
  empty: ReactNode;
}) {
  const definitions = useMemo(
    () =>
      columns.map(
        (column): ColumnDef<typeof features, T, unknown> => ({
          id: column.id,
          header: column.name,
          accessorFn: (row: T) => column.sort?.(row) ?? "",
          cell: ({ row }) => column.cell(row.original),
          enableSorting: column.sort !== undefined,
        }),
      ),
    [columns],
  );
  const table = useTable({ features, columns: definitions, data: rows, getRowId: rowKey });
  if (rows.length === 0) return <>{empty}</>;
  return (
    <div className="overflow-x-auto">
      <table aria-label={label} className="w-full border-collapse text-left">
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id} className="border-b border-line text-xs text-muted">
              {group.headers.map((header, index) => {
                const sorted = header.column.getIsSorted();
                return (
                  <th
                    key={header.id}
                    scope="col"
                    aria-sort={sorted ? (sorted === "asc" ? "ascending" : "descending") : undefined}
                    className={cx("px-3 py-1.5 font-medium", columns[index]?.className)}
                  >
                    {header.column.getCanSort() ? (
                      <button
                        type="button"
                        onClick={header.column.getToggleSortingHandler()}
                        className="inline-flex items-center gap-1 hover:text-text"
                      >
                        <table.FlexRender header={header} />
                        <span aria-hidden className="w-2">
                          {sorted === "asc" ? "↑" : sorted === "desc" ? "↓" : ""}
                        </span>
                      </button>
                    ) : (
                      <table.FlexRender header={header} />
                    )}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {table.getRowModel().rows.map((row) => (
            <tr key={row.id} className="border-b border-line/60 last:border-0 hover:bg-raised/60">
              {row.getAllCells().map((cell, index) => (
                <td key={cell.id} className={cx("px-3 py-1.5 align-middle", columns[index]?.className)}>
                  <table.FlexRender cell={cell} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
