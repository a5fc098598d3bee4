"""The analyst's side: asking a collector's HTTPS API, and fetching dumps. Needs none of the collector's libraries."""
