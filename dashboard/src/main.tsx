import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { SIGNED_OUT } from "@/api/client";
import { ProblemError } from "@/api/problem";
import { forgetSession } from "@/api/signed-out";
import { currentLanguage } from "@/i18n/language";
import { applyTheme } from "@/shell/theme";
import { router } from "./routes";
import "./styles.css";

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // Only what may pass by itself is tried again.
      retry: (count, error) =>
        count < 2 && (!(error instanceof ProblemError) || [0, 502, 503, 504].includes(error.problem.status)),
      staleTime: 5_000,
    },
  },
});

document.documentElement.lang = currentLanguage();
applyTheme();
// A session that ended elsewhere shows the sign-in page too.
window.addEventListener(SIGNED_OUT, () => forgetSession(queries));

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
