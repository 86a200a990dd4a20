/** All pages and their addresses. Addresses are part of what operators share: keep them. */
import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { AuditPage } from "@/features/access/audit";
import { TokensPage } from "@/features/access/tokens";
import { UsersPage } from "@/features/access/users";
import { CameraPage } from "@/features/cameras/page";
import { CamerasPage } from "@/features/cameras/list";
import { ClustersPage } from "@/features/clusters/list";
import { ClusterPage } from "@/features/clusters/page";
import { DeploymentsPage } from "@/features/deployments/list";
import { DevicePage } from "@/features/devices/page";
import { DevicesPage } from "@/features/devices/list";
import { PackagePage } from "@/features/packages/page";
import { PackagesPage } from "@/features/packages/list";
import { resultSearch, ResultsPage } from "@/features/results/page";
import { SchedulesPage } from "@/features/schedules/list";
import { SchedulePage } from "@/features/schedules/page";
import { SettingsPage } from "@/features/settings/page";
import { SitePage } from "@/features/site/page";
import { NotFound, Shell } from "@/shell/shell";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound });
const route = createRoute;
const parent = () => root;

const tree = root.addChildren([
  route({ getParentRoute: parent, path: "/", component: SitePage }),
  route({ getParentRoute: parent, path: "/devices", component: DevicesPage }),
  route({ getParentRoute: parent, path: "/devices/$id", component: DevicePage }),
  route({ getParentRoute: parent, path: "/cameras", component: CamerasPage }),
  route({ getParentRoute: parent, path: "/cameras/$id", component: CameraPage }),
  route({ getParentRoute: parent, path: "/clusters", component: ClustersPage }),
  route({ getParentRoute: parent, path: "/clusters/$id", component: ClusterPage }),
  route({ getParentRoute: parent, path: "/packages", component: PackagesPage }),
  route({ getParentRoute: parent, path: "/packages/$id", component: PackagePage }),
  route({ getParentRoute: parent, path: "/deployments", component: DeploymentsPage }),
  route({ getParentRoute: parent, path: "/schedules", component: SchedulesPage }),
  route({ getParentRoute: parent, path: "/schedules/$id", component: SchedulePage }),
  route({
    getParentRoute: parent,
    path: "/results",
    component: ResultsPage,
    validateSearch: resultSearch,
  }),
  route({ getParentRoute: parent, path: "/users", component: UsersPage }),
  route({ getParentRoute: parent, path: "/tokens", component: TokensPage }),
  route({ getParentRoute: parent, path: "/audit", component: AuditPage }),
  route({ getParentRoute: parent, path: "/settings", component: SettingsPage }),
]);

export const router = createRouter({ routeTree: tree, defaultPreload: false });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
