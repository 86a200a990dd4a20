module haechi.internal/pause

go 1.26
