-- The subscriber's first start runs this in the database shop, when the publisher answers.
\set datapulse_password `cat /run/secrets/datapulse`
\set replicator_password `cat /run/secrets/replicator`

create role datapulse login password :'datapulse_password' connection limit 10;
grant pg_monitor to datapulse;

create table orders (id bigint primary key, customer text not null, cents integer not null, placed_at timestamptz not null);
create table device_connections (id bigint primary key, device integer not null, country text not null, connected_at timestamptz not null);
create index on device_connections (connected_at);
grant select on device_connections to datapulse;

select format('host=publisher port=5432 dbname=shop user=replicator password=%s', :'replicator_password') as source \gset
create subscription orders_sub connection :'source' publication orders_pub;
